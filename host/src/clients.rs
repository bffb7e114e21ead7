//! How many connections each client has, by its address, over all workers. Not there where nobody asks: a client is then not
//! counted.

use std::{net::IpAddr, sync::Arc};

use dashmap::{DashMap, Entry};

/// Connections by client. Carried by the socket that they came by.
#[derive(Debug, Default)]
pub struct Clients(DashMap<IpAddr, u32>);

/// One connection of a client, while this lives.
#[derive(Debug)]
pub struct Counted {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    /// Counts a connection; none where the client has `most`.
    pub fn begin(self: &Arc<Self>, client: IpAddr, most: u32) -> Option<Counted> {
        let mut count = self.0.entry(client).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { clients: Arc::clone(self), client })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.clients.0.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_so_many_and_one_that_has_none_is_forgotten() {
        let (clients, [a, b]) =
            (Arc::new(Clients::default()), ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()));
        let first = clients.begin(a, 2);
        let second = clients.begin(a, 2);
        assert!(first.is_some() && second.is_some() && clients.begin(a, 2).is_none());
        assert!(clients.begin(b, 2).is_some(), "another's are its own");
        drop(first);
        let third = clients.begin(a, 2);
        assert!(third.is_some());
        drop((second, third));
        assert!(clients.0.is_empty());
    }
}
