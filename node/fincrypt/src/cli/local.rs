//! Asks the node that runs in a home, by its local interface.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::home::Home;

/// How long the node may take to answer: a channel's peer has to be reached first.
const ANSWER: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const MAX_ANSWER: u64 = 64 << 20;

const NOT_RUNNING: &str = "no node with a local interface runs in this home: start it with --api 127.0.0.1:0";

/// What a path of the interface says.
pub(super) fn ask(home: &Home, path: &str) -> Result<Value, String> {
    call(home, "GET", path, None)
}

/// Makes the node do something.
pub(super) fn call(home: &Home, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).ok();
    let (address, token) = read("api.address").zip(read("api.token")).ok_or(NOT_RUNNING)?;
    let address: SocketAddr = address.parse().map_err(|_| NOT_RUNNING)?;
    let body = body.map_or_else(String::new, Value::to_string);
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n")?;
        write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())?;
        write!(stream, "Connection: close\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = asked().map_err(|error| format!("{NOT_RUNNING} ({error})"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    if head.starts_with("HTTP/1.1 200") {
        return serde_json::from_str(body).map_err(|error| error.to_string());
    }
    // What the node refuses it says in a line of text.
    let refused =
        ["400", "404", "409", "422", "500"].iter().any(|code| head.starts_with(&format!("HTTP/1.1 {code}")));
    if refused && !body.is_empty() {
        return Err(body.to_owned());
    }
    Err("another program answers where this home's node listened; start the node".to_owned())
}
