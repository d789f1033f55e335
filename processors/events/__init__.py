"""What each event of a document sets off: integrity, renditions, archiving, notification."""
