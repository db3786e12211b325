//! Bodies as real clients send them, byte for byte, and what becomes of them.

use gantry_api::container::CreateRequest;
use gantry_api::{exec, filters, gojson};

/// `docker run -p 8080:80 -v data:/data --memory 64m -e A=b web`, the stock CLI 28.2.
const STOCK_CLI: &str = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"ExposedPorts":{"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["A=b"],"Cmd":null,"Image":"web","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},"HostConfig":{"Binds":["data:/data"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":67108864,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"","DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}"#;

/// docker-py's `containers.run("web", "sleep 1", detach=True, ports={"80/tcp": None})`.
const DOCKER_PY: &str = r#"{"Image": "web", "Command": ["sleep", "1"], "Cmd": ["sleep", "1"], "Hostname": null, "Domainname": null, "ExposedPorts": {"80/tcp": {}}, "User": null, "Tty": false, "OpenStdin": false, "StdinOnce": false, "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Env": null, "Volumes": null, "NetworkDisabled": false, "Entrypoint": null, "WorkingDir": null, "HostConfig": {"NetworkMode": "default", "PortBindings": {"80/tcp": null}}, "NetworkingConfig": null, "Healthcheck": null, "StopSignal": null, "Runtime": null}"#;

#[test]
fn the_stock_clis_create_comes_back_as_it_was_sent() {
    let request = CreateRequest::parse(STOCK_CLI.as_bytes()).expect("JSON");
    assert_eq!(request.host_config.as_ref().map(|host| host.memory), Some(64 << 20));
    assert_eq!(String::from_utf8(gojson::to_vec(&request)).expect("UTF-8").trim_end(), STOCK_CLI);
}

#[test]
fn docker_pys_nulls_are_defaults() {
    let request = CreateRequest::parse(DOCKER_PY.as_bytes()).expect("JSON");
    assert_eq!(request.config.cmd.as_deref(), Some(&["sleep".to_owned(), "1".to_owned()][..]));
    assert_eq!((request.config.hostname.as_str(), request.networking_config), ("", None));
    let ports = request.host_config.and_then(|host| host.port_bindings).expect("ports");
    assert_eq!(ports.get("80/tcp"), Some(&None));
}

#[test]
fn exec_bodies_of_two_clients_are_one() {
    let cli = r#"{"User":"","Privileged":false,"Tty":false,"AttachStdin":false,"AttachStderr":true,"AttachStdout":true,"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["true"]}"#;
    let py = r#"{"Container": "x", "User": "", "Privileged": false, "Tty": false, "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Cmd": ["true"], "Env": null}"#;
    let read = |text: &str| gojson::from_slice::<exec::CreateRequest>(text.as_bytes()).expect("JSON");
    assert_eq!(read(cli), read(py));
}

#[test]
fn filters_of_two_clients_are_one() {
    let (cli, py) = (r#"{"status":{"exited":true}}"#, r#"{"status": ["exited"]}"#);
    assert_eq!(filters::parse(cli), filters::parse(py));
}
