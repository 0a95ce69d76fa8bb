//! Who is at the other end of a UNIX socket, as the kernel noted it when the connection was made.
//!
//! Unsafe code is allowed in this crate for one system call: nobody else offers `SO_PEERGROUPS`, and groups read from
//! `/proc` by process number may be those of another process by then.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The credentials of a peer (unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Process number; 0 where it is not visible here.
    pub pid: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Most groups that a process can have (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 65536;

/// Asks the kernel who connected.
///
/// # Errors
/// Where `socket` is no connected UNIX socket.
pub fn peer_of(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(&socket)?;
    Ok(Peer {
        pid: u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or(0),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
        groups: groups_of(socket)?,
    })
}

fn groups_of(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 32];
    loop {
        let mut length = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).unwrap_or(0);
        // SAFETY: The buffer has as many bytes as `length` says, and the kernel writes no more; it tells in `length` how
        // many there are, or would be.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if outcome == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST_GROUPS {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = peer_of(&ours).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<u32>>()
        };
        assert_eq!(peer.pid, std::process::id());
        assert_eq!((peer.uid, peer.gid), (line("Uid:")[1], line("Gid:")[1]));
        let (mut told, mut known) = (peer.groups, line("Groups:"));
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
    }

    #[test]
    fn peer_of_what_is_no_socket_is_refused() {
        assert!(peer_of(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
