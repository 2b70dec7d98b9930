//! Durations as users write them.
