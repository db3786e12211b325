//! The tables against the reference document, and wire types against bytes of real clients.

mod clients;
mod document;
