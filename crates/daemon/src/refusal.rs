//! Every operation's error as an answer: its kind decides the status, its text is the message.

use gantry_build::BuildError;
use gantry_engine::{containers, events, images, networks, sandboxes, volumes};
use gantry_model::ErrorKind;
use gantry_server::Failure;

/// A failed request on its way to the client.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Failure);

impl Refusal {
    /// A refusal of the request itself.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self(Failure::new(ErrorKind::InvalidArgument, message))
    }

    /// A thing that does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self(Failure::new(ErrorKind::NotFound, message))
    }

    /// Something known, but not built yet.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self(Failure::new(ErrorKind::NotImplemented, message))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        refusal.0
    }
}

macro_rules! of_kind {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self(Failure::new(error.kind(), error.to_string()))
            }
        }
    )*};
}

of_kind!(containers::Error, events::Error, images::Error, networks::Error, sandboxes::Error, volumes::Error);

impl From<BuildError> for Refusal {
    fn from(error: BuildError) -> Self {
        Self(Failure::new(error.kind(), error.full_text()))
    }
}

macro_rules! of_argument {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::invalid(error.to_string())
            }
        }
    )*};
}

of_argument!(
    gantry_api::gojson::InvalidJson,
    gantry_api::query::InvalidQuery,
    gantry_api::filters::InvalidFilter,
    gantry_api::build::InvalidBuildOptions,
    gantry_model::reference::InvalidReference,
    gantry_model::platform::InvalidPlatform,
);
