//! The table of endpoints, and the types, against the reference document.

use std::collections::BTreeSet;

use gantry_api::endpoints;
use gantry_testkit::reference::Reference;
use serde::Serialize;

#[test]
fn every_endpoint_of_the_document_is_in_the_table() {
    let Some(reference) = Reference::load() else { return };
    let ours: BTreeSet<String> = endpoints::ALL.iter().map(|one| one.to_string().replace('…', "")).collect();
    let theirs = reference.endpoints();
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What the document leaves out, on purpose.
    let beyond: Vec<&String> = ours.difference(&theirs).collect();
    let wanted = [
        "DELETE /containers/{id}/checkpoints/{checkpoint}",
        "GET /containers/{id}/checkpoints",
        "POST /containers/{id}/checkpoints",
        "POST /grpc",
    ];
    assert_eq!(beyond, wanted);
}

fn check<T: Serialize + Default>(reference: &Reference, name: &str, known_beyond: &[&str]) {
    let value = serde_json::to_value(T::default()).expect("JSON");
    let wrong = reference.check_type(name, &value);
    let unexplained: Vec<&String> = wrong
        .iter()
        .filter(|wrong| !known_beyond.iter().any(|known| wrong.starts_with(&format!(".{known}"))))
        .collect();
    assert!(unexplained.is_empty(), "{name}: {unexplained:?}");
}

#[test]
fn types_have_the_documents_keys_and_shapes() {
    let Some(reference) = Reference::load() else { return };
    // Beyond the document: what only older versions have (removed by the table of differences), and
    // values that are empty only here, in a default.
    let old_network = [
        "Bridge",
        "HairpinMode",
        "LinkLocal",
        "Secondary",
        "EndpointID",
        "Gateway",
        "GlobalIPv6",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ]
    .map(|key| format!("NetworkSettings.{key}"));
    let mut inspect: Vec<&str> = old_network.iter().map(String::as_str).collect();
    // Docker writes these two as null, whatever its document says.
    inspect.extend(["HostConfig.MemorySwappiness", "HostConfig.OomKillDisable"]);
    inspect.extend(["State.Status", "HostConfig.LogConfig.Type", "HostConfig.CgroupnsMode"]);
    check::<gantry_api::inspect::ContainerInspect>(&reference, "ContainerInspectResponse", &inspect);
    check::<gantry_api::container::ContainerSummary>(&reference, "ContainerSummary", &["State"]);
    check::<gantry_api::container::CreateResponse>(&reference, "ContainerCreateResponse", &[]);
    check::<gantry_api::container::WaitResponse>(&reference, "ContainerWaitResponse", &[]);
    check::<gantry_api::host_config::HostConfig>(
        &reference,
        "HostConfig",
        &["LogConfig.Type", "CgroupnsMode", "MemorySwappiness", "OomKillDisable"],
    );
    check::<gantry_api::network::EndpointSettings>(&reference, "EndpointSettings", &[]);
    check::<gantry_api::network::CreateResponse>(&reference, "NetworkCreateResponse", &[]);
    let old_image = [
        "Container",
        "VirtualSize",
        "DockerVersion",
        "Parent",
        "Config.Attach",
        "Config.Domainname",
        "Config.Hostname",
        "Config.Image",
        "Config.OpenStdin",
        "Config.StdinOnce",
        "Config.Tty",
    ];
    check::<gantry_api::image::ImageInspect>(&reference, "ImageInspect", &old_image);
    check::<gantry_api::image::ImageSummary>(&reference, "ImageSummary", &["VirtualSize", "Labels"]);
    check::<gantry_api::image::HistoryItem>(&reference, "ImageHistoryResponseItem", &[]);
    check::<gantry_api::volume::Volume>(&reference, "Volume", &["Scope", "Labels"]);
    check::<gantry_api::event::EventMessage>(&reference, "EventMessage", &["Type", "scope"]);
    check::<gantry_api::system::Version>(&reference, "SystemVersion", &[]);
    check::<gantry_api::system::Info>(
        &reference,
        "SystemInfo",
        &["CgroupDriver", "BridgeNf", "RegistryConfig.AllowNondistributable"],
    );
}
