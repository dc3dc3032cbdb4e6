//! Images with every fault that the verifier must see.

use std::io::Write;

use serde_json::json;

use super::*;

/// An entry of a layer under test.
#[derive(Clone)]
struct Entry(&'static str, u32, u64, u64);

fn good() -> Vec<Entry> {
    [
        "home/",
        "home/robot/",
        "home/robot/app/",
        "home/robot/app/.wh..wh..opq",
        "home/robot/app/robot.yaml",
    ]
    .map(|name| Entry(name, 0o775, 0, MTIME))
    .to_vec()
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for Entry(name, mode, owner, time) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(0);
        header.set_mtime(*time);
        header.set_size(0);
        tar.append_data(&mut header, name, io::empty()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn put(root: &Path, bytes: &[u8]) -> Value {
    let digest = name(&Sha256::digest(bytes));
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    fs::write(root.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
    json!({"digest": digest, "size": bytes.len()})
}

/// Writes an image of these layers, each with its role.
fn write(root: &Path, layers: &[(Option<&str>, Vec<u8>)]) {
    let mut descriptors = Vec::new();
    for (number, (role, plain)) in layers.iter().enumerate() {
        let gzip = number % 2 == 0;
        let packed = if gzip {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        } else {
            zstd::encode_all(&plain[..], 1).unwrap()
        };
        let mut descriptor = put(root, &packed);
        descriptor["mediaType"] = (if gzip { GZIP } else { ZSTD }).into();
        if let Some(role) = role {
            descriptor["annotations"] = json!({ROLE: role});
        }
        descriptors.push(descriptor);
    }
    let diff_ids: Vec<_> = layers.iter().map(|(_, plain)| name(&Sha256::digest(plain))).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({})).collect();
    let config = json!({"config": {}, "rootfs": {"diff_ids": diff_ids}, "history": history});
    let mut config = put(root, config.to_string().as_bytes());
    config["mediaType"] = CONFIG.into();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors});
    let mut manifest = put(root, manifest.to_string().as_bytes());
    manifest["mediaType"] = MANIFEST.into();
    fs::write(root.join("index.json"), json!({"manifests": [manifest]}).to_string()).unwrap();
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn read(layers: &[(Option<&str>, Vec<u8>)]) -> Result<Image> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), layers);
    Image::read(folder.path())
}

#[test]
fn a_good_image_is_read() {
    let foreign = archive(&[Entry("etc/.wh.passwd", 0o4755, 7, 1)]);
    let image = read(&[
        (Some(BASE), foreign),
        (Some("rcc"), archive(&good()[..1])),
        (Some("code"), archive(&good())),
    ])
    .unwrap();
    assert_eq!(image.of_role(Some("code")).next().unwrap().opaque, ["home/robot/app"]);
    assert_eq!((image.of_role(None).count(), image.layers[2].entries), (1, 5));
}

#[test]
fn whatever_our_layers_promise_is_demanded() {
    let with = |entry: Entry| [good(), vec![entry]].concat();
    let table = [
        ("does not belong to root", with(Entry("home/a", 0o664, 1000, MTIME))),
        ("has another time", with(Entry("home/a", 0o664, 0, 0))),
        ("is there twice", with(Entry("home/robot/", 0o775, 0, MTIME))),
        ("comes before its parent", with(Entry("usr/a", 0o664, 0, MTIME))),
        ("is a whiteout", with(Entry("home/.wh.a", 0o664, 0, MTIME))),
        ("has mode 4755", with(Entry("home/a", 0o4755, 0, MTIME))),
    ];
    for (problem, entries) in table {
        let error = read(&[(Some("code"), archive(&entries))]).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let error = read(&[(Some("environment"), archive(&good()))]).unwrap_err().to_string();
    assert!(error.contains("has mode 775"), "{error}");
    let error = read(&[(Some("code"), archive(&good())), (Some("rcc"), archive(&good()))])
        .unwrap_err()
        .to_string();
    assert!(error.contains("not the order"), "{error}");
}

#[test]
fn documents_and_blobs_must_agree() {
    type Damage = fn(&Path);
    let table: [(&str, Damage); 4] = [
        ("belongs to nothing", |root| drop(put(root, b"litter"))),
        ("its descriptor", |root| {
            let path = root.join("index.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"size\":", "\"size\":1")).unwrap();
        }),
        ("expected one", |root| fs::write(root.join("index.json"), "{}").unwrap()),
        ("layer", |root| {
            // The longest blob is the layer; one byte of it changes.
            let mut blobs = fs::read_dir(root.join("blobs/sha256")).unwrap().flatten().map(|entry| entry.path());
            let layer = blobs.find(|path| fs::read(path).unwrap()[0] != b'{').unwrap();
            let mut bytes = fs::read(&layer).unwrap();
            let last = bytes.len() - 5;
            bytes[last] ^= 1;
            fs::write(&layer, bytes).unwrap();
        }),
    ];
    for (problem, damage) in table {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[(Some("code"), archive(&good()))]);
        damage(folder.path());
        let error = Image::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
