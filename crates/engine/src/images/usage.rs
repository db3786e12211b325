//! What images take of the disk: layers that several of them have are there once.

use std::collections::HashMap;

use gantry_model::LayerId;
use gantry_model::filter::Filters;

use super::{AllImages, Error, Images, Summary};

/// What a list of images takes.
#[derive(Debug, Clone, Default)]
pub struct ImageUsage {
    /// The list, each with the bytes of those of its layers that others of the list have as well.
    pub images: Vec<(Summary, u64)>,
    /// Bytes of the layers of all images, each once.
    pub layers_bytes: u64,
}

impl Images {
    /// As [`Images::list`], with what the images take.
    ///
    /// # Errors
    /// Those of [`Images::list`].
    pub async fn usage(&self, all: AllImages, filters: &Filters) -> Result<ImageUsage, Error> {
        let (images, filters) = (self.clone(), filters.clone());
        crate::blocking(move || images.usage_now(all, &filters)).await
    }

    fn usage_now(&self, all: AllImages, filters: &Filters) -> Result<ImageUsage, Error> {
        let listed = self.list_now(all, filters)?;
        let every = self.store.images().list()?;
        // With those of the platforms that indexes have and that are not listed.
        let sizes = self.store.images().layer_sizes()?;
        let layers: HashMap<_, _> = every.iter().map(|image| (image.id, &image.layers)).collect();
        let mut users: HashMap<LayerId, usize> = HashMap::new();
        for layer in listed.iter().filter_map(|image| layers.get(&image.id)).copied().flatten() {
            *users.entry(*layer).or_default() += 1;
        }
        let shared = |image: &Summary| {
            let layers = layers.get(&image.id).copied().into_iter().flatten();
            layers.filter(|layer| users[*layer] > 1).filter_map(|layer| sizes.get(layer)).sum()
        };
        let images = listed.iter().map(|image| (image.clone(), shared(image))).collect();
        let layers_bytes = sizes.values().sum::<u64>() + self.store.images().content_bytes()?;
        Ok(ImageUsage { images, layers_bytes })
    }
}
