//! Endpoints: a network namespace's link to a bridge.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use gantry_model::ErrorKind;
use gantry_sys::netlink;
use gantry_sys::netlink::route::{BridgePort as Port, Change, LinkRef, NewPair, Route};
use gantry_sys::ns::Kinds;

use crate::Host;
use crate::address::{Ipv4Net, MacAddress};

/// What follows the identity in the alias of an endpoint's host's end; after it comes the sandbox's id.
pub(crate) const ALIAS_KIND: &str = "endpoint";

const EEXIST: i32 = 17;

/// What an endpoint is to be.
#[derive(Debug, Clone)]
pub struct EndpointSpec<'a> {
    /// The bridge to plug into.
    pub port: BridgePort<'a>,
    /// The namespace that gets the link.
    pub namespace: BorrowedFd<'a>,
    /// The link's name in the namespace: `eth0`, `eth1`, …
    pub name: &'a str,
    /// Its address, with the subnet's prefix.
    pub address: Ipv4Net,
    /// The default route's gateway; `None` adds no default route (internal networks, second networks).
    pub gateway: Option<Ipv4Addr>,
    /// Its hardware address.
    pub mac: MacAddress,
    /// In bytes; 0 means the kernel's default, 1500.
    pub mtu: u32,
}

/// The host's end of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct BridgePort<'a> {
    /// [`crate::bridge::Bridge::index`].
    pub bridge: u32,
    /// The link's name, from [`crate::Identity::endpoint_name`]; 1 to 15 bytes.
    pub name: &'a str,
    /// The sandbox's id, for the tag in the link's alias.
    pub owner: &'a str,
    /// Whether it may talk to the bridge's other containers directly:
    /// [`crate::bridge::Traffic::between_containers`].
    pub between_containers: bool,
}

/// An endpoint as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The index of the host's end.
    pub host_index: u32,
    /// The index of the container's end, in its namespace.
    pub index: u32,
}

/// Makes the link: host's end in the bridge and up, the container's end in the namespace with name, hardware
/// address, address, default route, up; without IPv6. `lo` is the sandbox's own affair. May be called for
/// several namespaces at once, from several threads.
///
/// It goes away with its namespace; nobody needs to remove it.
///
/// # Errors
/// [`AttachError`]; nothing of it is left then.
pub fn attach(host: &Host, spec: &EndpointSpec<'_>) -> Result<Endpoint, AttachError> {
    let name = || spec.port.name.to_owned();
    let mut inside =
        Inside::open(spec.namespace).map_err(|source| AttachError::Namespace { name: name(), source })?;
    let result = attach_with(host, spec, &mut inside.route);
    inside.restore();
    if let Err(AttachError::Kernel { .. }) = result {
        let _ = detach(host, spec.port.name);
    }
    result
}

fn attach_with(host: &Host, spec: &EndpointSpec<'_>, inside: &mut Route) -> Result<Endpoint, AttachError> {
    let failed = |action| move |source| AttachError::Kernel { action, name: spec.port.name.into(), source };
    let host_index = match route(host, spec, |route| plug_in(host, route, spec))? {
        // The link of a sandbox of the same id whose namespace the kernel has not yet taken down.
        Err(error) if error.errno() == EEXIST => {
            detach(host, spec.port.name)?;
            route(host, spec, |route| plug_in(host, route, spec))?
        }
        result => result,
    }
    .map_err(failed("creation"))?;
    let index = inside.index_of(spec.name).map_err(failed("look-up"))?;
    let mut changes = inside.changes();
    let address = spec.address;
    changes.add_address(index, address.address(), address.prefix(), address.broadcast());
    changes.change_link(LinkRef::Index(index), &Change { up: Some(true), ..Change::default() });
    if let Some(gateway) = spec.gateway {
        changes.add_default_route(index, gateway);
    }
    inside.apply(changes).map_err(failed("configuration"))?;
    // So that not even the first packet of, or to, the container is lost.
    inside.settle(&[index]).map_err(failed("start"))?;
    route(host, spec, |route| route.settle(&[host_index, spec.port.bridge]))?.map_err(failed("start"))?;
    Ok(Endpoint { host_index, index })
}

/// Makes the pair and sets up the host's end. What can only be changed of a link that exists (alias, how the
/// bridge treats the port) follows in a second message of the same system call.
fn plug_in(host: &Host, route: &mut Route, spec: &EndpointSpec<'_>) -> Result<u32, netlink::Error> {
    let mut changes = route.changes();
    changes.add_pair(&NewPair {
        name: spec.port.name,
        master: spec.port.bridge,
        peer_name: spec.name,
        peer_namespace: spec.namespace,
        peer_mac: spec.mac.0,
        mtu: spec.mtu,
    });
    let alias = format!("{}{ALIAS_KIND}:{}", host.identity().alias_prefix(), spec.port.owner);
    changes.change_link(
        LinkRef::Name(spec.port.name),
        &Change {
            up: Some(true),
            alias: Some(&alias),
            mtu: None,
            ipv6_address: crate::bind::has_ipv6().then_some(false),
            // With bridge-nf-call-iptables, a translated packet is not routed but bridged, back out
            // of its port if a container calls its own published port.
            port: Some(Port { hairpin: true, isolated: !spec.port.between_containers }),
        },
    );
    route.apply(changes)?;
    route.index_of(spec.port.name)
}

/// What reaches into the namespace from outside.
struct Inside {
    route: Route,
    /// Whether links that are made there have IPv6, where that was changed from yes to no.
    new_links_ipv6: Option<File>,
}

impl Inside {
    /// Opens it by a thread that enters the namespace and ends: this thread, which may belong to a pool,
    /// never leaves the host's. Until [`Inside::restore`], links made there are without IPv6, so that ours is
    /// from its first moment.
    fn open(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        const STACK_BYTES: usize = 64 * 1024;
        let inside = move || {
            gantry_sys::ns::enter(namespace, Kinds::NET).map_err(io::Error::from_raw_os_error)?;
            Ok(Self { new_links_ipv6: without_ipv6()?, route: Route::open()? })
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, inside)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }

    /// Lets links that the container makes itself have IPv6 again, as under Docker.
    fn restore(&self) {
        if let Some(setting) = &self.new_links_ipv6 {
            let _ = setting.write_at(b"0\n", 0);
        }
    }
}

fn without_ipv6() -> io::Result<Option<File>> {
    let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    let setting = match File::options().read(true).write(true).open(path) {
        // The kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let mut now = [0; 2];
    setting.read_at(&mut now, 0)?;
    if now[0] == b'1' {
        return Ok(None);
    }
    setting.write_at(b"1\n", 0)?;
    Ok(Some(setting))
}

fn route<T>(
    host: &Host,
    spec: &EndpointSpec<'_>,
    speak: impl FnOnce(&mut Route) -> T,
) -> Result<T, AttachError> {
    host.with_route(speak).map_err(|error| AttachError::Kernel {
        action: "opening a socket",
        name: spec.port.name.into(),
        source: error.into(),
    })
}

/// Removes the endpoint whose host's end has this name, while its namespace lives on (`network disconnect`).
/// No link with this name: no error.
///
/// # Errors
/// [`AttachError::Kernel`].
pub fn detach(host: &Host, host_name: &str) -> Result<(), AttachError> {
    let failed = |source| AttachError::Kernel { action: "removal", name: host_name.into(), source };
    let removed = host.with_route(|route| {
        let mut changes = route.changes();
        changes.remove_link(LinkRef::Name(host_name));
        route.apply(changes)
    });
    match removed.map_err(|error| failed(error.into()))? {
        Err(error) if !error.is_absent() => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Why an endpoint could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The namespace could not be entered.
    #[error("entering the network namespace of {name} failed")]
    Namespace {
        /// The host's end.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("{action} of endpoint {name} failed")]
    Kernel {
        /// What was done.
        action: &'static str,
        /// The host's end.
        name: String,
        /// What the kernel said.
        #[source]
        source: netlink::Error,
    },
}

impl AttachError {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
