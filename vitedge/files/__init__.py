"""Files read without trust and written whole: bounds, formats of files, locks, staging."""
