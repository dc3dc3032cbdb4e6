use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn split(files: &[(&str, u64)]) -> Split {
    let mut sizes = Sizes::default();
    for (path, bytes) in files {
        sizes.add(Path::new(path), *bytes);
    }
    Split::of(&sizes)
}

fn names(split: &Split) -> Vec<(&str, u64)> {
    split.parts().iter().map(|part| (part.name.as_str(), part.bytes / MIB)).collect()
}

/// The name of the one part that a file is in.
fn part_of<'s>(split: &'s Split, path: &str) -> &'s str {
    let parts: Vec<usize> = (0..split.parts().len())
        .filter(|part| split.takes(*part, Path::new(path), false))
        .collect();
    assert_eq!(parts.len(), 1, "{path} is in {parts:?}");
    &split.parts()[parts[0]].name
}

/// An environment as robots have it.
const LARGE: [(&str, u64); 19] = [
    ("bin/python3.11", 20 * MIB),
    ("bin/pip", 200),
    ("identity.yaml", 300),
    ("lib/libpython3.11.so", 30 * MIB),
    ("lib/python3.11/os.py", 40 * MIB),
    ("share/terminfo/x", 3 * MIB),
    ("browsers/chrome/chrome", 300 * MIB),
    ("lib/python3.11/site-packages/numpy/core.so", 60 * MIB),
    ("lib/python3.11/site-packages/numpy.libs/blas.so", 30 * MIB),
    ("lib/python3.11/site-packages/numpy-2.1.0.dist-info/RECORD", MIB),
    ("lib/python3.11/site-packages/pandas/a.so", 70 * MIB),
    ("lib/python3.11/site-packages/scipy/a.so", 100 * MIB),
    ("lib/python3.11/site-packages/pyarrow/a.so", 150 * MIB),
    ("lib/python3.11/site-packages/sklearn/a.so", 50 * MIB),
    ("lib/python3.11/site-packages/lxml/etree.so", 20 * MIB),
    ("lib/python3.11/site-packages/selenium/a.py", 30 * MIB),
    ("lib/python3.11/site-packages/PIL/a.so", 15 * MIB),
    ("lib/python3.11/site-packages/requests/a.py", MIB),
    ("lib/python3.11/site-packages/robot/a.py", 3 * MIB),
];

#[test]
fn parts_follow_how_often_files_change() {
    let split = split(&LARGE);
    // A golden value: other parts are other layers, so they come with another `RECIPE`.
    assert_eq!(
        names(&split),
        [
            ("base", 93),
            ("numpy", 91),
            ("pandas", 70),
            ("pyarrow", 150),
            ("scipy", 100),
            ("browsers", 300),
            ("group-1", 115),
            ("rest", 4)
        ]
    );
    let table = [
        ("bin/python3.11", "base"),
        ("bin/pip", "rest"),
        ("identity.yaml", "rest"),
        ("share/terminfo/x", "base"),
        ("browsers/chrome/chrome", "browsers"),
        ("lib/python3.11/site-packages/NumPy.libs/blas.so", "numpy"),
        ("lib/python3.11/site-packages/six.py", "rest"),
        ("lib/python3.11/lib-dynload/a.so", "base"),
    ];
    for (path, part) in table {
        assert_eq!(part_of(&split, path), part, "{path}");
    }
}

#[test]
fn small_environments_stay_whole() {
    let split = split(&[("bin/python", 60 * MIB), ("lib/python3.11/site-packages/numpy/a", MIB)]);
    assert_eq!(names(&split), [("all", 61)]);
    assert!(split.takes(0, Path::new("lib/python3.11/site-packages/numpy/a"), false));
    let mut sizes = Sizes::default();
    for number in 0..=MAX_NAMES as u64 {
        sizes.add(Path::new(&format!("lib/python3.11/site-packages/p{number}/a")), MIB);
    }
    assert_eq!(Split::of(&sizes).parts().len(), 1, "names without end are not told apart");
}

#[test]
fn a_small_change_moves_nothing_else() {
    let before = split(&LARGE);
    for (path, bytes) in [
        ("lib/python3.11/site-packages/requests/a.py", 2 * MIB),
        ("lib/python3.11/site-packages/newcomer/a.py", 3 * MIB),
        ("lib/python3.11/site-packages/lxml/etree.so", 25 * MIB),
        ("bin/newcomer", 300),
    ] {
        let mut files: Vec<_> = LARGE.iter().copied().filter(|(other, _)| *other != path).collect();
        files.push((path, bytes));
        let after = split(&files);
        for (other, _) in LARGE {
            assert_eq!(part_of(&before, other), part_of(&after, other), "{other} after {path}");
        }
    }
}

fn files() -> impl Strategy<Value = Vec<(String, u64)>> {
    let place = prop_oneof![
        Just("bin/".to_owned()),
        Just(String::new()),
        Just("lib/".to_owned()),
        Just("lib/python3.11/".to_owned()),
        Just("share/x/".to_owned()),
        Just("data/".to_owned()),
        "lib/python3.1[12]/site-packages/[a-j]{1,2}/",
        Just("lib/python3.11/site-packages/".to_owned()),
    ];
    prop::collection::vec(
        (place, "[a-z]{1,3}(\\.py)?", 0..80 * MIB).prop_map(|(place, name, bytes)| (format!("{place}{name}"), bytes)),
        0..60,
    )
}

proptest! {
    #[test]
    fn every_file_is_in_one_part_with_its_parents(files in files(), seed in any::<u64>()) {
        let mut sizes = Sizes::default();
        for (path, bytes) in &files {
            sizes.add(Path::new(path), *bytes);
        }
        let split = Split::of(&sizes);
        let mut other = Sizes::default();
        let turn = usize::try_from(seed % 64).unwrap().min(files.len());
        for (path, bytes) in files[turn..].iter().chain(&files[..turn]).rev() {
            other.add(Path::new(path), *bytes);
        }
        prop_assert_eq!(&split, &Split::of(&other), "the order of the walk does not matter");
        prop_assert!((1..=MAX_PARTS).contains(&split.parts().len()));
        prop_assert_eq!(split.parts().iter().map(|part| part.bytes).sum::<u64>(), files.iter().map(|(_, bytes)| bytes).sum::<u64>());
        for (path, bytes) in &files {
            // A script and a program of one name in two runs of the generator are two files at one path.
            if path.starts_with("bin/") && files.iter().any(|(other, size)| other == path && (*size < SCRIPT) != (*bytes < SCRIPT)) {
                continue;
            }
            let path = Path::new(path);
            let parts: Vec<usize> = (0..split.parts().len()).filter(|part| split.takes(*part, path, false)).collect();
            prop_assert_eq!(parts.len(), 1, "{:?}", path);
            for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                prop_assert!(split.takes(parts[0], parent, true), "{:?} of {:?}", parent, path);
            }
        }
    }
}
