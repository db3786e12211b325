//! From options to the engine's settings and the store's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use gantry_engine::Settings;
use gantry_engine::containers::config::{LogConfig, Ulimit};
use gantry_engine::settings::{BridgeSettings, Defaults};
use gantry_store::DriverChoice;

use crate::options::Options;

/// Checks what can be checked without touching the host.
///
/// # Errors
/// An option that cannot be used, by name.
pub(crate) fn check(options: &Options) -> Result<()> {
    engine(options)?;
    driver(options)?;
    for host in &options.hosts {
        host.parse::<gantry_server::Address>()?;
    }
    for label in &options.labels {
        if !label.contains('=') {
            bail!("--label {label}: expected key=value");
        }
    }
    if !matches!(options.default_runtime.as_deref(), None | Some("" | "gantry" | "runc")) {
        bail!("--default-runtime: only our own is supported yet, under the names gantry and runc");
    }
    Ok(())
}

/// The storage driver.
///
/// # Errors
/// One that we do not have.
pub(crate) fn driver(options: &Options) -> Result<DriverChoice> {
    Ok(match options.storage_driver.as_deref() {
        None | Some("") => DriverChoice::Auto,
        Some("overlay" | "overlay2") => DriverChoice::Overlay,
        Some("vfs") => DriverChoice::Vfs,
        Some(other) => bail!("--storage-driver {other}: expected overlay2 or vfs"),
    })
}

/// The engine's settings.
///
/// # Errors
/// An option that cannot be used, by name.
pub(crate) fn engine(options: &Options) -> Result<Settings> {
    Ok(Settings {
        data_root: options.data_root.clone(),
        exec_root: options.exec_root.clone(),
        bin_dir: None,
        labels: options.labels.clone(),
        bridge: BridgeSettings {
            name: options.bridge.clone().filter(|name| !name.is_empty()),
            address: options.bip.clone().filter(|address| !address.is_empty()),
            mtu: options.mtu,
            isolate: !options.icc,
            no_masquerade: !options.ip_masq,
            no_firewall: !options.iptables,
            publish_address: options.ip,
        },
        defaults: Defaults {
            cgroup_parent: options.cgroup_parent.clone().filter(|path| !path.is_empty()),
            ulimits: ulimits(&options.default_ulimits)?,
            shm_size_bytes: match &options.default_shm_size {
                Some(text) => bytes(text)
                    .with_context(|| format!("--default-shm-size {text}: expected a size, such as 64m"))?,
                None => 0,
            },
            init: options.init,
            log: LogConfig { driver: options.log_driver.clone(), options: log_options(&options.log_opts)? },
            dns: options.dns.clone(),
            dns_options: options.dns_opts.clone(),
            dns_search: options.dns_search.clone(),
            no_new_privileges: options.no_new_privileges,
        },
    })
}

fn log_options(given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) =
            text.split_once('=').with_context(|| format!("--log-opt {text}: expected key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

/// Reads `name=soft[:hard]`; -1 and `unlimited` are no limit.
fn ulimits(given: &[String]) -> Result<BTreeMap<String, Ulimit>> {
    let number = |text: &str| match text {
        "unlimited" => Some(-1),
        number => number.parse::<i64>().ok().filter(|number| *number >= -1),
    };
    let limit = |text: &String| {
        let (name, bounds) = text.split_once('=')?;
        let (soft, hard) = bounds.split_once(':').unwrap_or((bounds, bounds));
        let (soft, hard) = (number(soft)?, number(hard)?);
        Some((name.to_owned(), Ulimit { soft, hard }))
    };
    given
        .iter()
        .map(|text| {
            limit(text).with_context(|| format!("--default-ulimit {text}: expected name=soft[:hard]"))
        })
        .collect()
}

/// Reads a size with a unit of 1024: `64m`, `1g`, `65536`, `1.5kb`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.trim_end_matches('b').trim_end_matches('i');
    let (number, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
    let mut bytes = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    let mut unit = 1_u64 << shift;
    for digit in fraction.chars() {
        unit /= 10;
        bytes = bytes.checked_add(u64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, want) in [
            ("64m", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("65536", Some(65536)),
            ("1kb", Some(1024)),
            ("2MiB", Some(2 << 20)),
            ("0.5k", Some(510)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
        ] {
            assert_eq!(bytes(text), want, "{text:?}");
        }
    }

    #[test]
    fn limits_are_named_with_one_or_two_bounds() {
        let given = ["nofile=1024:2048".to_owned(), "core=unlimited".to_owned()];
        let limits = ulimits(&given).expect("limits");
        assert_eq!(limits.get("nofile"), Some(&Ulimit { soft: 1024, hard: 2048 }));
        assert_eq!(limits.get("core"), Some(&Ulimit { soft: -1, hard: -1 }));
        for bad in ["nofile", "nofile=x", "nofile=1:2:3", "nofile=-2"] {
            assert!(ulimits(&[bad.to_owned()]).is_err(), "{bad:?} was taken");
        }
    }
}
