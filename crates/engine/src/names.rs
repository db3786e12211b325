//! Names of containers: what is allowed, and what is made up.

/// Words about how something can be.
const ADJECTIVES: [&str; 64] = [
    "able", "agile", "ample", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "careful",
    "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early", "exact", "fair", "famous",
    "fine", "firm", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "handy", "hardy",
    "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "modest",
    "neat", "nimble", "noble", "patient", "plucky", "polite", "prompt", "proud", "quick", "quiet", "ready",
    "sharp", "sober", "steady", "sturdy", "sunny", "tidy", "trusty", "warm",
];

/// Surnames of people who moved, measured, computed or built things.
const SURNAMES: [&str; 96] = [
    "abel",
    "ampere",
    "archimedes",
    "babbage",
    "bell",
    "bernoulli",
    "bessemer",
    "bohr",
    "boole",
    "brunel",
    "cantor",
    "cavendish",
    "cerf",
    "church",
    "clarke",
    "codd",
    "copernicus",
    "curie",
    "daimler",
    "davy",
    "diesel",
    "dijkstra",
    "earhart",
    "eiffel",
    "einstein",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goddard",
    "godel",
    "hamilton",
    "harrison",
    "herschel",
    "hertz",
    "hilbert",
    "hoare",
    "hooke",
    "hopper",
    "hubble",
    "humboldt",
    "huygens",
    "joule",
    "kepler",
    "knuth",
    "lagrange",
    "lamarr",
    "lamport",
    "laplace",
    "lavoisier",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mclean",
    "meitner",
    "mendel",
    "mercator",
    "morse",
    "napier",
    "newton",
    "nobel",
    "noether",
    "ohm",
    "otis",
    "papin",
    "pascal",
    "pasteur",
    "planck",
    "ritchie",
    "rontgen",
    "shannon",
    "siemens",
    "somerville",
    "stephenson",
    "stevin",
    "telford",
    "tesla",
    "thompson",
    "torricelli",
    "turing",
    "volta",
    "watt",
    "wegener",
    "wheeler",
    "wiles",
    "wright",
    "zuse",
];

/// Makes up `adjective_surname` from a random number; from the second attempt on with a digit.
pub(crate) fn made_up(random: u64, attempt: u32) -> String {
    let pick = |words: &'static [&'static str], random: u64| {
        let count = u64::try_from(words.len()).expect("a short list");
        words[usize::try_from(random % count).expect("less than its length")]
    };
    let name = format!("{}_{}", pick(&ADJECTIVES, random), pick(&SURNAMES, random >> 24));
    if attempt == 0 { name } else { format!("{name}{}", random >> 48 & 0x3ff) }
}

/// Whether Docker allows it: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_allowed(name: &str) -> bool {
    name.len() >= 2
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_allowed_and_change_with_the_attempt() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let (first, second) = (made_up(random, 0), made_up(random, 1));
            assert!(is_allowed(&first) && is_allowed(&second) && first.contains('_'), "{first} {second}");
            assert!(second.starts_with(&first));
        }
    }

    #[test]
    fn names_are_judged_as_docker_does() {
        for (name, good) in [
            ("a", false),
            ("ab", true),
            ("_a", false),
            ("a_b.c-d", true),
            ("a b", false),
            ("é1", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(name), good, "{name:?}");
        }
    }
}
