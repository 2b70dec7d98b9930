//! The shell, in a terminal: what a person types, and sees.
#![cfg(test)]

#[path = "../../src/fake.rs"]
mod fake;
#[path = "../../src/fixture.rs"]
mod fixture;

mod completion;
mod editing;
mod piped;
mod running;
mod terminal;
mod typed_ahead;
