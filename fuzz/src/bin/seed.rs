//! Writes what the targets begin with, from the vectors of the tests, to `corpus/TARGET/`.

use std::{fs, io, path::Path};

use serde_json::Value;

fn write(target: &str, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), content)
}

fn main() -> io::Result<()> {
    let [v1, v1a, jwt] = [
        include_str!("../../../tests/vectors/v1.json"),
        include_str!("../../../tests/vectors/v1a.json"),
        include_str!("../../../tests/vectors/jwt.json"),
    ]
    .map(|vectors| serde_json::from_str::<Value>(vectors).unwrap());
    write("jwks", "v1a", v1a["jwks"].to_string())?;
    write("jwks", "jwt", jwt["jwks"].to_string())?;
    for (scheme, cases) in [("v1", &v1), ("v1a", &v1a["cases"]), ("jwt", &jwt["cases"])] {
        for (number, case) in cases.as_array().unwrap().iter().enumerate() {
            let name = format!("{scheme}-{number}");
            let text = |member: &str| case[member].as_str().unwrap_or_default();
            let [id, timestamp, signature, body] =
                ["id", "timestamp", "signature", "body"].map(text);
            let headers = format!(
                "webhook-id: {id}\nwebhook-timestamp: {timestamp}\nwebhook-signature: {signature}\n"
            );
            write("headers", &name, headers)?;
            write("signature", &name, signature)?;
            write("event", &name, body)?;
            write(
                "secret",
                &name,
                case["secrets"][0].as_str().unwrap_or(signature),
            )?;
            if scheme == "jwt" {
                write("jwt", &name, format!("{signature}\n{body}"))?;
            } else {
                let whole = format!("{id}\n{timestamp}\n{signature}\n{body}");
                write("differential", &name, whole)?;
                for (tag, entry) in [
                    ("a", "v1,@0"),
                    ("b", "v1,AAAA v1,@1 v9,AAAA"),
                    ("c", "v1a,@2"),
                ] {
                    let signed = format!("{id}\n{timestamp}\n{entry}\n{body}");
                    write("differential", &format!("{name}{tag}"), signed)?;
                }
            }
        }
    }
    Ok(())
}
