"""Antivirus engines that documents are shown to before anything else may open them."""
