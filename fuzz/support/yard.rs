//! A directory to unpack into, and a neighbour that nothing may touch.

use std::fs;
use std::os::fd::AsFd as _;

use gantry_model::Timestamp;
use gantry_store::archive::{
    ExtractOptions, Limits, Onto, Overwrite, Owner, Packed, Whiteouts, extract, pack,
};

/// Unpacks an archive as a layer, as `docker cp` does it, and as `ADD`.
///
/// # Panics
/// Something outside of the directory was touched, or what was unpacked cannot be packed.
pub fn unpack(archive: &[u8]) {
    let ways = [
        (Onto::New, Whiteouts::Overlay),
        (Onto::New, Whiteouts::Ordinary),
        (Onto::Living(Overwrite::Anything), Whiteouts::Ordinary),
        (Onto::Living(Overwrite::SameKind), Whiteouts::Files),
    ];
    for (onto, whiteouts) in ways {
        let yard = tempfile::tempdir().expect("there is room for a directory");
        let (root, outside) = (yard.path().join("root"), yard.path().join("outside"));
        fs::create_dir(&root).expect("a new directory is empty");
        fs::write(&outside, "untouched").expect("a new directory is empty");
        let before = fs::metadata(&outside).expect("it was made").modified().expect("files have times");
        let limits = Limits { unpacked_bytes: 1 << 20, ratio_allowance_bytes: 1 << 20, ..Limits::default() };
        let options = ExtractOptions {
            limits,
            whiteouts,
            owner: Owner::Archive,
            epoch: None,
            implied_time: Timestamp::default(),
            onto,
        };
        let directory = fs::File::open(&root).expect("it was made");
        let unpacked = extract(archive, directory.as_fd(), &options);
        if unpacked.is_ok() {
            pack(Packed::Directory(directory.as_fd()), b"x", std::io::sink()).expect("what came in goes out");
        }
        let after = fs::metadata(&outside).expect("it is there still").modified().expect("files have times");
        assert_eq!((fs::read(&outside).expect("it is a file still"), after), (b"untouched".to_vec(), before));
        assert_eq!(
            fs::read_dir(yard.path()).expect("it is there still").count(),
            2,
            "nothing is beside them"
        );
    }
}
