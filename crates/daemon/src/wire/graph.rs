//! Where layers are, in the words of Docker's `overlay2`: the paths are those that exist.

use std::path::Path;

use gantry_api::Map;
use gantry_model::mount::RootMount;

/// `GraphDriver.Data` of a container. A merged tree is mounted in the container's own namespace only: `MergedDir`
/// is the way there through `/proc` while it runs, and left out while it does not.
pub(crate) fn of_container(id: &str, root: Option<&RootMount>, pid: Option<u32>) -> Map<String> {
    let Some(RootMount::Overlay { lower, upper, work }) = root else { return Map::new() };
    let merged = pid.map(|pid| format!("/proc/{pid}/root"));
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(text);
    entries([
        ("ID", Some(id.to_owned())),
        ("LowerDir", Some(lower.iter().map(|layer| text(layer)).collect::<Vec<_>>().join(":"))),
        ("MergedDir", merged),
        ("UpperDir", path(upper)),
        ("WorkDir", path(work)),
    ])
}

/// `GraphDriver.Data` of an image: its topmost layer is the upper one, as Docker shows it.
pub(crate) fn of_image(root: Option<&RootMount>) -> Map<String> {
    let Some(RootMount::Overlay { lower, .. }) = root else { return Map::new() };
    let below = lower.get(1..).filter(|below| !below.is_empty());
    entries([
        ("LowerDir", below.map(|below| below.iter().map(|layer| text(layer)).collect::<Vec<_>>().join(":"))),
        ("UpperDir", lower.first().map(|top| text(top))),
    ])
}

fn entries<const N: usize>(all: [(&str, Option<String>); N]) -> Map<String> {
    all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_they_are() {
        let root = RootMount::Overlay {
            lower: vec!["/l/2".into(), "/l/1".into()],
            upper: Some("/s/fs".into()),
            work: Some("/s/work".into()),
        };
        let shown = |map: Map<String>| {
            map.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            shown(of_container("c", Some(&root), Some(7))),
            "ID=c LowerDir=/l/2:/l/1 MergedDir=/proc/7/root UpperDir=/s/fs WorkDir=/s/work"
        );
        assert_eq!(
            shown(of_container("c", Some(&root), None)),
            "ID=c LowerDir=/l/2:/l/1 UpperDir=/s/fs WorkDir=/s/work"
        );
        assert_eq!(shown(of_image(Some(&root))), "LowerDir=/l/1 UpperDir=/l/2");
        assert_eq!(shown(of_container("c", Some(&RootMount::Bind { source: "/v".into() }), Some(7))), "");
        assert_eq!(shown(of_container("c", None, None)), "");
    }
}
