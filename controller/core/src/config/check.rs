//! From what the file says to what is meant.
