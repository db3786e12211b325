//! Images from archives and into them: `load` and `save`.

use std::io::{Read, Write};

use gantry_model::{Digest, Platform};
use gantry_store::image::{self, LoadEvent, LoadOptions, SaveOptions};

use super::{Error, Images};

/// What happens while an archive is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loading {
    /// Bytes of a layer that was not here were read.
    Layer {
        /// Its DiffID.
        diff_id: Digest,
        /// Of its file in the archive.
        read_bytes: u64,
        /// Of its file in the archive.
        total_bytes: u64,
    },
    /// A name of an image that was loaded goes to it.
    Named {
        /// The familiar name.
        name: String,
        /// The image that had the name before, if that is another one.
        before: Option<Digest>,
    },
    /// The end: the ids of all images if the last one has no name, as Docker tells them.
    Unnamed(Vec<Digest>),
}

/// Images that are about to be written, and stay here until this is dropped.
pub struct Export {
    images: Images,
    saved: image::Saved,
}

impl Export {
    /// Writes the archive. Blocks a thread of its own.
    ///
    /// # Errors
    /// [`Error::Store`]; what was written is no whole archive then.
    pub fn write(&self, output: impl Write) -> Result<(), Error> {
        self.saved.write(output)?;
        for image in self.saved.images() {
            self.images.note("save", &image.id, &image.id.to_string());
        }
        Ok(())
    }
}

impl Images {
    /// Loads the images of an archive, all or none. Blocks its thread while reading.
    ///
    /// # Errors
    /// [`Error::Store`] with Docker's reason; nothing of the archive remains.
    pub fn load(
        &self,
        reader: impl Read + Send,
        platform: Option<Platform>,
        mut events: impl FnMut(Loading) + Send,
    ) -> Result<(), Error> {
        let mut forward = |event: LoadEvent<'_>| {
            if let LoadEvent::Layer { diff_id, read_bytes, total_bytes } = event {
                events(Loading::Layer { diff_id: *diff_id, read_bytes, total_bytes });
            }
        };
        let loaded = self.store.images().load(reader, &LoadOptions { platform }, &mut forward)?;
        for image in &loaded {
            for (name, before) in &image.names {
                events(Loading::Named { name: name.familiar(), before: *before });
            }
            self.note("load", &image.id, &image.id.to_string());
        }
        if loaded.last().is_none_or(|last| last.names.is_empty()) {
            events(Loading::Unnamed(loaded.iter().map(|image| image.id).collect()));
        }
        Ok(())
    }

    /// Prepares the archive of these images; everything that can be wrong with the names is found here.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::NotFound`], [`Error::Store`].
    pub async fn save(&self, names: &[String], platform: Option<Platform>) -> Result<Export, Error> {
        let (images, names) = (self.clone(), names.to_vec());
        crate::blocking(move || {
            let saved = images.store.images().save(&names, &SaveOptions { platform })?;
            Ok(Export { images, saved })
        })
        .await
    }
}
