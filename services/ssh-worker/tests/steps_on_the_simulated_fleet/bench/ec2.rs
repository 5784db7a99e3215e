//! The one EC2 call that a host of the simulated fleet needs.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Launches an instance with this SSH host key. Returns its private address.
pub async fn launch(endpoint: &str, host_key: &str) -> String {
    let indented: String = host_key.lines().map(|line| format!("    {line}\n")).collect();
    let user_data = format!("#cloud-config\nssh_keys:\n  ed25519_private: |\n{indented}");
    let user_data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, user_data);
    let form = [
        ("Action", "RunInstances"),
        ("Version", "2016-11-15"),
        ("ImageId", integration_tests::simulated_fleet::DEFAULT_IMAGE),
        ("InstanceType", "t3.small"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("ClientToken", "token"),
        ("UserData", &user_data),
    ];
    let escape = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let body = form
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .join("&");
    let host = endpoint.trim_start_matches("http://");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=simulated/20261101/us-east-1/ec2/aws4_request, Signature=0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, rest) = answer
        .split_once("<privateIpAddress>")
        .unwrap_or_else(|| panic!("no address in {answer}"));
    rest.split('<').next().unwrap().to_owned()
}
