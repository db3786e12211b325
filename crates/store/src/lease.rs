//! Leases: what keeps layers and blobs alive that no image refers to (yet).

use crate::Error;
use gantry_model::{Digest, LayerId};

/// Access to leases.
#[derive(Clone)]
pub struct Leases {
    store: crate::Store,
}

#[expect(unused_variables)]
impl Leases {
    /// Makes a lease that ends when the guard is dropped, or at the next [`crate::Store::open`].
    ///
    /// # Errors
    /// What the database said.
    pub fn temporary(&self, purpose: &str) -> Result<Lease, Error> {
        unimplemented!()
    }
    /// Opens the lease of that name, or makes it. It stays, across daemons and boots, until
    /// [`Lease::end`]: for the build cache.
    ///
    /// # Errors
    /// What the database said.
    pub fn named(&self, name: &str) -> Result<Lease, Error> {
        unimplemented!()
    }
}

/// A lease. Dropping a temporary one ends it.
pub struct Lease {
    store: crate::Store,
    id: i64,
}

#[expect(unused_variables)]
impl Lease {
    /// Holds a layer. Holding it twice is once.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`] where it is gone already.
    pub fn hold_layer(&self, layer: LayerId) -> Result<(), Error> {
        unimplemented!()
    }
    /// Holds a blob.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] where it is gone already.
    pub fn hold_blob(&self, blob: &Digest) -> Result<(), Error> {
        unimplemented!()
    }
    /// Holds an image's configuration and layers, also if its last name goes.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] where the image is gone already.
    pub fn hold_image(&self, image: &Digest) -> Result<(), Error> {
        unimplemented!()
    }
    /// No longer holds a layer. One that it did not hold is no error.
    ///
    /// # Errors
    /// What the database said.
    pub fn release_layer(&self, layer: LayerId) -> Result<(), Error> {
        unimplemented!()
    }
    /// Ends the lease, also a named one. What only it held is garbage from now on.
    ///
    /// # Errors
    /// What the database said.
    pub fn end(self) -> Result<(), Error> {
        unimplemented!()
    }
}
