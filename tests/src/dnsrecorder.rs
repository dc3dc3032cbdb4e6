//! A name server that writes down every question and answers none, for programs that must not ask any.
//!
//! Invariant: a question is recorded even when it is malformed; nothing is forwarded.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};

/// What the recorder does with a question besides recording it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, as in a network that drops packets: the program waits.
    Silence,
    /// "No such name".
    NoSuchName,
}

/// A running recorder; dropping it ends it.
#[derive(Debug)]
pub struct DnsRecorder {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DnsRecorder {
    /// Listens on `ip:port` over UDP, port 0 for a free one. (A resolver asks over TCP only after an answer over UDP.)
    pub fn start(bind: &str, answer: Answer) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Other(format!("the DNS recorder cannot listen on {bind}: {error}"));
        let socket = UdpSocket::bind(bind).map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (questions, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (list, end) = (Arc::clone(&questions), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                let Ok((size, peer)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                let question = name(&packet[..size]).unwrap_or_else(|| "(not a question)".to_owned());
                list.lock().unwrap_or_else(PoisonError::into_inner).push(question);
                if answer == Answer::NoSuchName
                    && let Some(reply) = refuse(&packet[..size])
                    && let Err(error) = socket.send_to(&reply, peer)
                {
                    tracing::debug!("an answer could not be sent: {error}");
                }
            }
        });
        Ok(Self {
            address,
            questions,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names asked for so far.
    pub fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for DnsRecorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the DNS recorder ended by a panic");
        }
    }
}

/// The name of the first question; a pointer in it, which a question has no use for, makes it malformed.
fn name(packet: &[u8]) -> Option<String> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            return Some(labels.join("."));
        }
        if length > 63 {
            return None;
        }
        let label = packet.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + length;
    }
}

/// The question again as an answer with code 3, "no such name".
fn refuse(packet: &[u8]) -> Option<Vec<u8>> {
    let mut reply = packet.to_owned();
    *reply.get_mut(2)? |= 0x80;
    let flags = reply.get_mut(3)?;
    *flags = (*flags & 0x70) | 3;
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.bytes());
        }
        packet.extend([0, 0, 1, 0, 1]);
        packet
    }

    #[test]
    fn a_question_is_recorded_and_refused() {
        let recorder = DnsRecorder::start("127.0.0.1:0", Answer::NoSuchName).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&question("telemetry.example.com"), recorder.address()).unwrap();
        let mut reply = [0; 512];
        let (size, _) = socket.recv_from(&mut reply).unwrap();
        assert_eq!((reply[0], reply[1], reply[3] & 0x0f), (0x12, 0x34, 3));
        assert!(size > 12);
        assert_eq!(recorder.questions(), ["telemetry.example.com"]);
    }

    #[test]
    fn rubbish_is_recorded_too() {
        let recorder = DnsRecorder::start("127.0.0.1:0", Answer::Silence).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0xff; 13], recorder.address()).unwrap();
        for _ in 0..100 {
            if !recorder.questions().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(recorder.questions(), ["(not a question)"]);
    }
}
