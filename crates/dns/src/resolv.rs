//! The host's upstream servers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Upstreams;

const DNS_PORT: u16 = 53;
/// Source: `MAXNS` of resolver(5) is 3; more do no harm.
const SERVERS_MAX: usize = 8;
/// How long the file's time of change is taken to be the same.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Who to ask now.
pub(crate) struct Servers {
    upstreams: Upstreams,
    /// Never asked: ourselves.
    own: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked: Option<Instant>,
    changed: Option<SystemTime>,
    servers: Arc<[SocketAddr]>,
}

impl Servers {
    pub(crate) fn new(upstreams: Upstreams, own: Vec<SocketAddr>) -> Servers {
        Servers { upstreams, own, state: Mutex::default() }
    }

    /// In the order they are to be asked. Reads the file when it has changed.
    pub(crate) fn current(&self) -> Arc<[SocketAddr]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN_AFTER) {
            return state.servers.clone();
        }
        let first = state.looked.is_none();
        state.looked = Some(Instant::now());
        match &self.upstreams {
            Upstreams::Fixed(servers) => state.servers = self.without_own(servers.clone()),
            Upstreams::ResolvConf(path) => {
                let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
                if first || changed != state.changed {
                    state.changed = changed;
                    state.servers = self.without_own(read(path));
                }
            }
        }
        state.servers.clone()
    }

    fn without_own(&self, servers: Vec<SocketAddr>) -> Arc<[SocketAddr]> {
        servers.into_iter().filter(|server| !self.own.contains(server)).take(SERVERS_MAX).collect()
    }
}

fn read(path: &Path) -> Vec<SocketAddr> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "names outside of the cluster are not resolved");
            Vec::new()
        }
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // An IPv6 address may name its interface; the kernel's own choice of it does.
        let address = address.split('%').next().unwrap_or(address);
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, DNS_PORT))
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_we_are_none_of_them() {
        let text = "# comment\nsearch example.com\nnameserver 10.0.0.1\n nameserver\tfe80::1%eth0 # x\n\
                    nameserver nonsense\nnameserver\noptions ndots:1\n";
        let servers = parse(text);
        assert_eq!(servers, ["10.0.0.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
        let own = vec![servers[0]];
        let others = Servers::new(Upstreams::Fixed(servers.clone()), own).current();
        assert_eq!(others.as_ref(), &servers[1..]);
    }
}
