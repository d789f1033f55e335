"""What a document is: lifecycle, events, types, errors. Standard library only."""
