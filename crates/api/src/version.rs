//! API versions: `1.24` to `1.55`, as they stand in paths (`/v1.41/…`) and headers.

use std::fmt;
use std::str::FromStr;

/// A version of the API. Ordered; the major number has been 1 since 2014.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

/// The newest version that is spoken, used where a client names none.
pub const MAX: ApiVersion = ApiVersion::v1(55);

/// The oldest version that is spoken.
pub const MIN: ApiVersion = ApiVersion::v1(24);

impl ApiVersion {
    /// Version `1.minor`.
    #[must_use]
    pub const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }

    /// Checks that this version is spoken.
    ///
    /// # Errors
    /// [`UnsupportedVersion`] in the words that Docker's clients know.
    pub fn supported(self) -> Result<Self, UnsupportedVersion> {
        if self < MIN {
            Err(UnsupportedVersion::TooOld(self))
        } else if self > MAX {
            Err(UnsupportedVersion::TooNew(self))
        } else {
            Ok(self)
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Says that a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an API version: expected two numbers, such as 1.41")]
pub struct InvalidVersion(pub String);

impl FromStr for ApiVersion {
    type Err = InvalidVersion;
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let number = |part: &str| -> Option<u16> {
            (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
        };
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }))
            .ok_or_else(|| InvalidVersion(text.into()))
    }
}

/// A version that is not spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedVersion {
    /// Below [`MIN`].
    #[error(
        "client version {0} is too old. Minimum supported API version is {MIN}, please upgrade your client to a newer version"
    )]
    TooOld(ApiVersion),
    /// Above [`MAX`].
    #[error("client version {0} is too new. Maximum supported API version is {MAX}")]
    TooNew(ApiVersion),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_texts() {
        assert!("1.9".parse::<ApiVersion>().expect("a version") < MIN);
        for bad in ["", "1", "1.", ".1", "1.2.3", "v1.2", "1.-2", "1.99999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad:?} was taken");
        }
        assert!(ApiVersion::v1(23).supported().is_err() && ApiVersion::v1(56).supported().is_err());
        assert_eq!(ApiVersion::v1(24).supported(), Ok(MIN));
    }
}
