"""An answer as bytes: named arrays behind a few bytes of header each, in half precision where that does no harm."""

import struct

import numpy

NUMBERS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
DTYPES = [numpy.dtype(f"<{name}") for name in NUMBERS]
"""An array's header names its type by the place here: append, never reorder."""
CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
HALF_MAX, HALF_MIN = 65504.0, 2.0**-24
"""The largest float16, and the smallest above zero."""


def answer_to_bytes(answer: dict[str, numpy.ndarray]) -> bytes:
    """Write named arrays, each as small as it may be: float32 as float16 where nothing becomes infinite or zero that wasn't,
    integers in as many bytes as the largest needs.

    RAISES: TypeError if an array holds something other than numbers.
    """
    parts = [struct.pack("<B", len(answer))]
    for name, array in answer.items():
        stored, encoded = _narrow(array), name.encode("utf8")
        codes = len(encoded), _code(array.dtype), _code(stored.dtype), array.ndim
        parts += [struct.pack(f"<4B{array.ndim}I", *codes, *array.shape), encoded, stored.tobytes()]
    return b"".join(parts)


def answer_from_bytes(data: bytes) -> dict[str, numpy.ndarray]:
    """The arrays again, in their own types and this machine's byte order."""
    answer, at = {}, 1
    for _ in range(data[0]):
        name_size, dtype, stored, n_dims = data[at : at + 4]
        shape = struct.unpack_from(f"<{n_dims}I", data, at + 4)
        at += 4 + 4 * n_dims
        name = data[at : at + name_size].decode("utf8")
        at += name_size
        array: numpy.ndarray = numpy.ndarray(shape, DTYPES[stored], data, at)
        answer[name] = array.astype(DTYPES[dtype].newbyteorder("="))
        at += array.nbytes
    return answer


def _narrow(array: numpy.ndarray) -> numpy.ndarray:
    little = array.dtype.newbyteorder("<")
    if array.size and array.dtype.kind == "f" and array.dtype.itemsize == 4:
        size = numpy.abs(array)
        # A NaN fails the first comparison. A probability that turned to zero would have an infinite logarithm.
        if size.max() <= HALF_MAX and numpy.count_nonzero(size < HALF_MIN) == numpy.count_nonzero(size == 0):
            return array.astype("<f2")
    elif array.size and array.dtype.kind in "iu":
        low, high = array.min(), array.max()
        fitting = (numpy.dtype(f"<{array.dtype.kind}{n_bytes}") for n_bytes in (1, 2, 4, 8))
        little = next(d for d in fitting if numpy.iinfo(d).min <= low and high <= numpy.iinfo(d).max)
    return array.astype(little, copy=False)


def _code(dtype: numpy.dtype) -> int:
    try:
        return CODES[dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"An answer holds arrays of numbers, not of {dtype}.") from None
