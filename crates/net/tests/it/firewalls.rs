//! Beside a dockerd, and beside firewalls that drop.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use gantry_model::container::Protocol::Tcp;
use gantry_net::bridge::{self, Traffic};
use gantry_net::firewall::{self, Change, Watch};
use gantry_net::owned::{self, Owned};
use gantry_net::ports;

use crate::lab::{HOST, OUTSIDE, bridge_spec, in_lab};

/// Runs a command in the thread's namespace; false, with the reason printed, where the machine has no such program.
fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    match Command::new(program).args(words).output() {
        Ok(output) => {
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            eprintln!("skipped: {program} cannot be run here: {error}");
            false
        }
    }
}

fn output(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().expect("a program")).args(words).output().expect("it ran before");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn dockers_user_chain_is_opened_and_closed_again() {
    in_lab(|lab| {
        if !run("iptables-nft -P FORWARD DROP") {
            return;
        }
        let web = lab.container(2);
        web.space.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        lab.outside.serve_tcp(OUTSIDE, 80);
        ports::publish(&lab.host, &[web.publication(Ipv4Addr::UNSPECIFIED, 8080, Tcp, 80)])
            .expect("published");
        let bridge = lab.host.identity().default_bridge_name();
        let warnings = firewall::coexist(&lab.host, &[&bridge]).expect("examined");
        assert_eq!(warnings.iter().map(|warning| warning.name).collect::<Vec<_>>(), ["forward-drop"]);
        assert!(!web.space.reaches(OUTSIDE, 80), "without Docker's chain nothing of others is changed");

        run("iptables-nft -N DOCKER-USER");
        run("iptables-nft -I FORWARD -j DOCKER-USER");
        run("iptables-nft -A DOCKER-USER -j RETURN");
        assert_eq!(firewall::coexist(&lab.host, &[&bridge]).expect("examined"), []);
        assert_eq!(firewall::coexist(&lab.host, &[&bridge]).expect("examined"), []);
        assert!(web.space.reaches(OUTSIDE, 80) && lab.outside.reaches(HOST, 8080));
        let rules = output("iptables-nft -S DOCKER-USER");
        assert_eq!(rules.lines().count(), 4, "two accepts, once, that iptables can list:\n{rules}");
        assert!(
            rules.contains(&format!("-i {bridge} ")) && rules.contains(&format!("-o {bridge} ")),
            "{rules}"
        );
        let ours = owned::list(&lab.host).expect("a list");
        assert!(ours.iter().any(|thing| matches!(thing, Owned::ForeignRule { .. })), "{ours:?}");

        bridge::remove(&lab.host, &bridge).expect("removed");
        assert_eq!(output("iptables-nft -S DOCKER-USER").lines().count(), 2);
        bridge::ensure(&lab.host, &bridge_spec(&lab.host, Traffic::default())).expect("made again");
        assert_eq!(output("iptables-nft -S DOCKER-USER").lines().count(), 4);
        assert!(owned::remove_all(&lab.host).is_empty());
        assert_eq!(output("iptables-nft -S DOCKER-USER").lines().count(), 2);
    });
}

#[test]
fn a_dropping_legacy_filter_is_a_warning_with_its_remedy() {
    in_lab(|lab| {
        if !run("iptables-legacy -P FORWARD DROP") {
            return;
        }
        let bridge = lab.host.identity().default_bridge_name();
        let warnings = firewall::coexist(&lab.host, &[&bridge]).expect("examined");
        assert_eq!(warnings.iter().map(|warning| warning.name).collect::<Vec<_>>(), ["legacy-forward-drop"]);
        let web = lab.container(2);
        lab.outside.serve_tcp(OUTSIDE, 80);
        assert!(!web.space.reaches(OUTSIDE, 80));
        for command in warnings[0].remedy.split("; ") {
            run(command);
        }
        assert!(web.space.reaches(OUTSIDE, 80), "the remedy opens it");
        run("iptables-legacy -P FORWARD ACCEPT");
        assert_eq!(firewall::coexist(&lab.host, &[&bridge]).expect("examined"), []);
    });
}

#[test]
fn a_dropping_nft_chain_is_a_warning_with_its_remedy() {
    in_lab(|lab| {
        if !run("nft add table inet strict") {
            return;
        }
        run("nft add chain inet strict passing { type filter hook forward priority 0 ; policy drop ; }");
        let bridge = lab.host.identity().default_bridge_name();
        let warnings = firewall::coexist(&lab.host, &[&bridge]).expect("examined");
        assert_eq!(warnings.iter().map(|warning| warning.name).collect::<Vec<_>>(), ["forward-drop"]);
        let web = lab.container(2);
        lab.outside.serve_tcp(OUTSIDE, 80);
        for command in warnings[0].remedy.split("; ") {
            run(command);
        }
        assert!(web.space.reaches(OUTSIDE, 80), "the remedy opens it");
    });
}

#[test]
fn changes_of_others_are_noticed_and_ours_are_not() {
    in_lab(|lab| {
        let mut watch = Watch::open(&lab.host).expect("a subscription");
        let container = lab.container(2);
        let published = [container.publication(Ipv4Addr::UNSPECIFIED, 80, Tcp, 80)];
        ports::publish(&lab.host, &published).expect("published");
        bridge::ensure(&lab.host, &bridge_spec(&lab.host, Traffic::default())).expect("the same again");
        let none = Some(Duration::from_millis(50));
        assert_eq!(watch.wait(none).expect("watched"), None);
        if !run("nft add table ip other") {
            return;
        }
        let patience = Some(Duration::from_secs(5));
        assert_eq!(watch.wait(patience).expect("watched"), Some(Change::Others));
        assert_eq!(watch.wait(none).expect("watched"), None);
    });
}

#[test]
fn a_flush_of_all_rules_leaves_ours() {
    in_lab(|lab| {
        let web = lab.container(2);
        web.space.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        let published = [web.publication(Ipv4Addr::UNSPECIFIED, 8080, Tcp, 80)];
        ports::publish(&lab.host, &published).expect("published");
        if run("nft flush ruleset") {
            assert!(lab.outside.reaches(HOST, 8080));
        }
    });
}
