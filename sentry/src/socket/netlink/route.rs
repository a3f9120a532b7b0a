//! What NETLINK_ROUTE says of `lo`.

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Up, loopback, running, lower layer up.
const LINK_FLAGS: u32 = 0x1_0049;
const LOOPBACK_INDEX: u32 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const SCOPE_HOST: u8 = 254;
const IFA_F_PERMANENT: u8 = 0x80;

/// The header of a request.
struct Request<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    /// With its header.
    whole: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The first request in `bytes`, and the rest.
fn next_request(bytes: &[u8]) -> Option<(Request<'_>, &[u8])> {
    let len = u32_at(bytes, 0)? as usize;
    if len < HEADER {
        return None;
    }
    let whole = bytes.get(..len)?;
    let request = Request {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        seq: u32_at(bytes, 8)?,
        whole,
    };
    Some((request, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

/// One answer under way.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, seq: u32, port: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&seq.to_ne_bytes());
        bytes.extend_from_slice(&port.to_ne_bytes());
        Self(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = (4 + value.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
        self.0
    }
}

fn link(flags: u16, seq: u32, port: u32) -> Vec<u8> {
    let [a, b] = ARPHRD_LOOPBACK.to_ne_bytes();
    Message::new(RTM_NEWLINK, flags, seq, port)
        .put(&[0, 0, a, b])
        .put(&LOOPBACK_INDEX.to_ne_bytes())
        .put(&LINK_FLAGS.to_ne_bytes())
        .put(&[0; 4])
        .attribute(3, b"lo\0")
        .attribute(13, &1000_u32.to_ne_bytes())
        .attribute(16, &[0])
        .attribute(17, &[0])
        .attribute(4, &65_536_u32.to_ne_bytes())
        .attribute(6, b"noqueue\0")
        .attribute(1, &[0; 6])
        .attribute(2, &[0; 6])
        .finish()
}

fn address(family: i32, seq: u32, port: u32) -> Vec<u8> {
    let v4 = family == libc::AF_INET;
    let (ip, prefix): (Vec<u8>, u8) = if v4 {
        (vec![127, 0, 0, 1], 8)
    } else {
        (std::net::Ipv6Addr::LOCALHOST.octets().to_vec(), 128)
    };
    let mut message = Message::new(RTM_NEWADDR, NLM_F_MULTI, seq, port)
        .put(&[family as u8, prefix, IFA_F_PERMANENT, SCOPE_HOST])
        .put(&LOOPBACK_INDEX.to_ne_bytes())
        .attribute(1, &ip);
    if v4 {
        message = message.attribute(2, &ip).attribute(3, b"lo\0");
    }
    let mut lifetimes = [0xff; 16];
    if let Some(stamps) = lifetimes.get_mut(8..) {
        stamps.fill(0);
    }
    message
        .attribute(6, &lifetimes)
        .attribute(8, &u32::from(IFA_F_PERMANENT).to_ne_bytes())
        .finish()
}

fn error(request: &Request<'_>, port: u32, errno: i32) -> Vec<u8> {
    let head = request.whole.get(..HEADER).unwrap_or(request.whole);
    Message::new(NLMSG_ERROR, 0, request.seq, port).put(&(-errno).to_ne_bytes()).put(head).finish()
}

/// The answers to the requests in `bytes`, one datagram each.
pub(super) fn answers(bytes: &[u8], port: u32) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((request, behind)) = next_request(rest) {
        rest = behind;
        let dumps = request.flags & NLM_F_DUMP == NLM_F_DUMP;
        let family = i32::from(*request.whole.get(HEADER).unwrap_or(&0));
        let mut parts: Vec<u8> = Vec::new();
        match request.kind {
            RTM_GETLINK if dumps => parts = link(NLM_F_MULTI, request.seq, port),
            RTM_GETLINK => {
                let index = u32_at(request.whole, HEADER + 4).unwrap_or(0);
                out.push(if index <= LOOPBACK_INDEX {
                    link(0, request.seq, port)
                } else {
                    error(&request, port, libc::ENODEV)
                });
                continue;
            }
            RTM_GETADDR if dumps => {
                for known in [libc::AF_INET, libc::AF_INET6] {
                    if family == libc::AF_UNSPEC || family == known {
                        parts.extend(address(known, request.seq, port));
                    }
                }
            }
            RTM_GETROUTE if dumps => {}
            // Everything that would change something.
            kind if kind >= RTM_NEWLINK && kind % 4 != 2 => {
                out.push(error(&request, port, libc::EPERM));
                continue;
            }
            kind if kind < RTM_NEWLINK => {
                // Control messages are only confirmed.
                if request.flags & NLM_F_ACK != 0 {
                    out.push(error(&request, port, 0));
                }
                continue;
            }
            _ => {
                out.push(error(&request, port, libc::EOPNOTSUPP));
                continue;
            }
        }
        if !parts.is_empty() {
            out.push(parts);
        }
        let done = Message::new(NLMSG_DONE, NLM_F_MULTI, request.seq, port);
        out.push(done.put(&0_i32.to_ne_bytes()).finish());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u16, flags: u16) -> Vec<u8> {
        let message = Message::new(kind, flags, 7, 0).put(&[0; 16]);
        message.finish()
    }

    #[test]
    fn a_dump_of_links_shows_lo_and_ends() {
        let answers = answers(&request(RTM_GETLINK, NLM_F_DUMP | 1), 42);
        assert_eq!(answers.len(), 2);
        assert_eq!(u16_at(&answers[0], 4), Some(RTM_NEWLINK));
        assert_eq!(u32_at(&answers[0], 0), Some(answers[0].len() as u32));
        assert_eq!(u32_at(&answers[0], 8), Some(7));
        assert!(answers[0].windows(3).any(|part| part == b"lo\0"));
        assert_eq!(u16_at(&answers[1], 4), Some(NLMSG_DONE));
    }

    #[test]
    fn changes_are_refused_and_nonsense_is_ignored() {
        let refused = answers(&request(RTM_NEWLINK, 1), 42);
        assert_eq!(u16_at(&refused[0], 4), Some(NLMSG_ERROR));
        assert!(answers(&[1, 2, 3], 42).is_empty());
        assert!(answers(&[0; 64], 42).is_empty());
    }
}
