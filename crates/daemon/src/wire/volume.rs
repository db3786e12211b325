//! Volumes as Docker shows them.

use gantry_api::volume::Volume;

/// Converts a volume.
pub(crate) fn volume(volume: &gantry_engine::volumes::Volume) -> Volume {
    let map = |map: &gantry_api::Map<String>| (!map.is_empty()).then(|| map.clone());
    Volume {
        // Docker tells whole seconds here.
        created_at: gantry_model::Timestamp::from_secs(volume.created.secs()).rfc3339_nano(),
        driver: volume.driver.clone(),
        labels: map(&volume.labels),
        mountpoint: volume.mountpoint.to_string_lossy().into_owned(),
        name: volume.name.clone(),
        options: map(&volume.options),
        scope: "local".into(),
        usage_data: None,
    }
}
