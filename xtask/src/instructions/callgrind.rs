//! From what the operations printed and what callgrind wrote to a count for each. Starts nothing.

use super::record::Count;

/// `names` has a line `ROUNDS NAME` for each operation. `dumps` has a dump for each time that the mark was entered, and one
/// for the end: of setting up, of the first operation's rounds, of setting up the second, and so on.
pub(super) fn counts(names: &str, dumps: &str) -> Result<Vec<Count>, String> {
    let dumped = dumps.lines().filter_map(|line| line.strip_prefix("summary: "));
    let dumped: Vec<u64> = dumped.map(|number| number.trim().parse().map_err(|_| number)).collect::<Result<_, _>>()?;
    let named: Vec<(u64, &str)> = names.lines().map(operation).collect::<Option<_>>().ok_or(names)?;
    if named.is_empty() {
        return Err("no operation has such a name".to_string());
    }
    if dumped.len() != 2 * named.len() + 1 {
        let (dumped, named) = (dumped.len(), named.len());
        return Err(format!("callgrind wrote {dumped} dumps of {named} operations; does it know the mark's name?"));
    }
    let of_rounds = dumped.iter().skip(1).step_by(2);
    let count = |((rounds, name), total): ((u64, &str), &u64)| Count {
        name: name.to_string(),
        instructions: (total + rounds / 2) / rounds,
    };
    Ok(named.into_iter().zip(of_rounds).map(count).collect())
}

fn operation(line: &str) -> Option<(u64, &str)> {
    let (rounds, name) = line.split_once(' ')?;
    rounds.parse().ok().filter(|&rounds| rounds > 0).map(|rounds| (rounds, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumps(totals: &[u64]) -> String {
        totals.iter().map(|total| format!("part: 1\nevents: Ir\nsummary: {total}\n\nfn=(1) x\n7 {total}\n")).collect()
    }

    #[test]
    fn takes_every_second_dump() {
        let count = |name: &str, instructions| Count { name: name.to_string(), instructions };
        let got = counts("10 read a host\n4 pick, 2\n", &dumps(&[900, 1234, 800, 22, 5]));
        assert_eq!(got, Ok(vec![count("read a host", 123), count("pick, 2", 6)]));
    }

    #[test]
    fn says_what_does_not_fit() {
        let check = |names: &str, dumps: &str| assert!(counts(names, dumps).is_err(), "{names} with {dumps}");
        check("", &dumps(&[5]));
        check("10 a\n", &dumps(&[5]));
        check("10 a\n", &dumps(&[5, 6]));
        check("0 a\n", &dumps(&[5, 6, 7]));
        check("a\n", &dumps(&[5, 6, 7]));
    }
}
