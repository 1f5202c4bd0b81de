//! The local interface answers its owner and nobody else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, path: &str, host: &str, token: Option<&str>) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn it_answers_with_the_token_and_a_loopback_host_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let child = Command::new(env!("CARGO_BIN_EXE_under-test"))
        .args(["fincrypt-node", "--role", "storage", "--network", "local", "--api", "127.0.0.1:0"])
        .args(["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", "1GB", "--home"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Ended(child.expect("starts"));
    let mut ready = String::new();
    BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
    let url = ready.trim().rsplit("api=").next().expect("an address");
    let address = url.strip_prefix("http://").unwrap_or_else(|| panic!("no URL in {ready}"));

    let path = dir.path().join("api.token");
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&path).expect("read");

    let good = ask(address, "/api/v1/node", address, Some(&token));
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    let body = good.split_once("\r\n\r\n").expect("a body").1;
    let info: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(info["storage"]["capacity_bytes"], 1_000_000_000, "{info}");
    assert_eq!(info["roles"][0], "storage", "{info}");
    let metrics = ask(address, "/metrics", address, Some(&token));
    assert!(metrics.contains("fincrypt_storage_capacity_bytes 1000000000"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    assert!(ask(address, "/api/v1/node", address, None).starts_with("HTTP/1.1 401"));
    assert!(ask(address, "/api/v1/node", address, Some("0000")).starts_with("HTTP/1.1 401"));
    let rebound = ask(address, "/api/v1/node", "attacker.example", Some(&token));
    assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
}
