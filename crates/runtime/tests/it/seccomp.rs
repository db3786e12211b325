//! The default profile in force.

use serde_json::json;

use crate::rig::{Rig, skipped};

#[test]
fn forbidden_calls_are_refused_and_capabilities_open_them() {
    if skipped() {
        return;
    }
    let rig = Rig::new();
    let script = "unshare -m true 2>&1; mount -t tmpfs x /tmp 2>&1";
    let outcome = rig.script(script, |_| {});
    assert!(outcome.stdout.matches("not permitted").count() + outcome.stdout.matches("denied").count() == 2, "{outcome:?}");
    let admin = rig.script("unshare -m true && echo ok", |spec| {
        for set in ["bounding", "permitted", "effective"] {
            spec["process"]["capabilities"][set].as_array_mut().expect("list").push(json!("CAP_SYS_ADMIN"));
        }
    });
    assert_eq!(admin.stdout, "ok\n", "{admin:?}");
}
