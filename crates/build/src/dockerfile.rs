//! Dockerfiles: text to lines ([`lexer`]), lines to instructions ([`parse`]), words with variables
//! ([`words`]), and instructions to graph and image configuration ([`lower`]).
//!
//! Everything here is pure. Texts of errors are those of Docker's classic builder, observed on 28.5.

mod healthcheck;
pub mod instruction;
pub mod lexer;
pub mod lower;
pub mod parse;
mod ports;
mod suggest;
pub mod words;

pub use instruction::{Instruction, Stage};
pub use parse::{Dockerfile, parse};
