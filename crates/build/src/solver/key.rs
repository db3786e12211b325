//! Cache keys: BLAKE3 over fields, each with its length before it, so that no two lists of fields meet.

use std::fmt;

use gantry_model::id::to_hex;

use crate::graph::Op;

/// Changes when the meaning of keys does: old results are not found then.
const VERSION: &str = "gantry build key v1";

/// A cache key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex()[..12])
    }
}

/// Makes a key of fields.
pub struct KeyMaker(blake3::Hasher);

impl KeyMaker {
    /// Begins a key of one sort; keys of different sorts never meet.
    #[must_use]
    pub fn new(sort: &str) -> Self {
        let mut maker = Self(blake3::Hasher::new());
        maker.field(VERSION.as_bytes());
        maker.field(sort.as_bytes());
        maker
    }

    /// Adds a field.
    pub fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Adds bytes of a field whose length the caller added before, with [`Self::number`].
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The key.
    #[must_use]
    pub fn finish(&self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

/// The key of an operation's definition, without its inputs.
///
/// # Panics
/// Never: an operation has only strings, numbers and lists.
#[must_use]
pub fn operation(op: &Op) -> Key {
    let mut maker = KeyMaker::new("operation");
    maker.field(&serde_json::to_vec(op).expect("operations have nothing that JSON lacks"));
    maker.finish()
}
