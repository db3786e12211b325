//! Looking for the detach keys in what a client types.

/// Remembers how much of the keys has been typed.
#[derive(Debug, Clone, Default)]
pub(super) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What to do with some input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Pass this on. Keys that may begin the sequence are held back until it is clear.
    Input(Vec<u8>),
    /// Pass this on, then detach; what came after is dropped.
    Detach(Vec<u8>),
}

impl DetachKeys {
    /// No keys never match.
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Whether input need not be looked at.
    pub(super) fn is_none(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes the next input.
    pub(super) fn take(&mut self, input: &[u8]) -> Typed {
        let mut pass = Vec::with_capacity(input.len() + self.matched);
        for &byte in input {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Typed::Detach(pass);
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(byte == self.keys[0]);
            if self.matched == 0 {
                pass.push(byte);
            }
        }
        Typed::Input(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[u8], typed: &[&[u8]], want: &[u8], detaches: bool) {
        let mut keys = DetachKeys::new(keys.into());
        let mut passed = Vec::new();
        for input in typed {
            match keys.take(input) {
                Typed::Input(bytes) => passed.extend(bytes),
                Typed::Detach(bytes) => {
                    passed.extend(bytes);
                    assert!(detaches, "{typed:?}");
                    assert_eq!(passed, want, "{typed:?}");
                    return;
                }
            }
        }
        assert!(!detaches, "{typed:?}");
        assert_eq!(passed, want, "{typed:?}");
    }

    #[test]
    fn keys_are_found_across_reads_and_passed_on_otherwise() {
        let pq = [16, 17];
        check(&pq, &[b"ls\x10\x11x"], b"ls", true);
        check(&pq, &[b"a\x10", b"\x11"], b"a", true);
        check(&pq, &[b"a\x10", b"b"], b"a\x10b", false);
        check(&pq, &[b"\x10\x10\x11"], b"\x10", true);
        check(&pq, &[b"\x11\x10"], b"\x11", false);
        check(&[1], &[b"abc", b"\x01"], b"abc", true);
    }
}
