"""Teacher to student: any trained spaCy pipeline teaches a smaller one inside the stock `spacy train` loop."""
