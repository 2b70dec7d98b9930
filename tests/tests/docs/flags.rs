//! `--help`, the manuals and the guide list the same options, variables and defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use maglev_lab::programs::program;
use maglev_tests::docs::manual::Manual;
use maglev_tests::docs::page;

use crate::assert_same;

/// Programs that people run.
pub const PROGRAMS: [&str; 3] = ["maglevd", "maglevd-prober", "maglevc"];

/// Documented properties of an option.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OptionInfo {
    /// Environment variable of the option.
    pub variable: Option<String>,
    /// Default value; `None` if it is not a literal value.
    pub default: Option<String>,
}

/// Returns the options of a program by long name.
pub fn of_help(name: &str) -> BTreeMap<String, OptionInfo> {
    let output = Command::new(program(name).unwrap()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let mut flags = BTreeMap::<String, OptionInfo>::new();
    let mut last = None;
    for line in help.lines().map(str::trim) {
        // --config <FILE>, and -h, --help; but also - text: For people
        let mut words = line.split([' ', ',']).filter(|_| line.starts_with('-'));
        if let Some(name) = words.find(|word| word.starts_with("--")) {
            last = Some(flags.entry(name.to_owned()).or_default());
        }
        let Some(flag) = &mut last else { continue };
        // [env: MAGLEV_CONFIG=], and [default: [::1]:9090,127.0.0.1:9090]
        if let Some((name, _)) = line.strip_prefix("[env: ").and_then(|rest| rest.split_once('=')) {
            flag.variable = Some(name.to_owned());
        }
        if let Some(value) = line.strip_prefix("[default: ").and_then(|rest| rest.strip_suffix(']')) {
            flag.default = Some(value.to_owned());
        }
    }
    assert!(flags.len() > 5, "{flags:?} of\n{help}");
    flags
}

/// Returns the manual of a program.
fn manual(program: &str) -> Manual {
    let section = if program == "maglevc" { 1 } else { 8 };
    Manual::read(&format!("docs/man/{program}.{section}"))
}

#[test]
fn manuals_document_every_option_and_default() {
    for program in PROGRAMS {
        let output = of_help(program);
        let items = manual(program).items();
        // Fl Fl config Ar file, Fl -server Ar ADDR, and h , Fl Fl help
        let options: BTreeMap<_, _> = items
            .iter()
            .filter_map(|item| {
                let (_, last) = item.head.split_once("Fl ").map(|_| item.head.rsplit_once("Fl "))??;
                let name = last.split(' ').next()?.trim_start_matches('-');
                Some((format!("--{name}"), &item.body))
            })
            .collect();
        let names = |of: &BTreeMap<String, OptionInfo>| of.keys().cloned().collect::<BTreeSet<_>>();
        assert_same(&format!("options of {program}"), &options.keys().cloned().collect(), &names(&output));
        for (name, flag) in output {
            let Some(default) = flag.default else { continue };
            let documented = options[&name].split([' ', ',', ':', '\n', '(']).any(|word| word == default);
            let documented = documented || options[&name].contains(&format!(" {default}"));
            assert!(documented, "{program} {name}: {default} is not in: {}", options[&name]);
        }
    }
}

#[test]
fn manuals_document_every_variable() {
    for program in PROGRAMS {
        let output: BTreeSet<_> = of_help(program).into_values().filter_map(|flag| flag.variable).collect();
        let heads = manual(program).heads("Ev").join(" , ");
        let documented = heads.split(" , ").filter(|name| name.starts_with("MAGLEV")).map(str::to_owned);
        assert_same(&format!("variables of {program}"), &documented.collect(), &output);
    }
}

#[test]
fn guide_documents_every_option() {
    let mut documented = BTreeMap::<&str, BTreeMap<String, OptionInfo>>::new();
    for page in page::all() {
        for table in page.tables("flag") {
            let Some(program) = table.about(&PROGRAMS) else {
                panic!("{}: a table of flags below {:?} without a program", page.name, table.below)
            };
            let [variable, default] = ["variable", "default"].map(|head| table.column(head));
            let flags = documented.entry(program).or_default();
            for row in &table.rows {
                // `--config FILE`, and `-h`, `--help`
                let mut names = row[0].codes.iter().filter_map(|code| code.split([' ', '=']).next());
                let name = names.rfind(|name| name.starts_with("--"));
                let name = name.unwrap_or_else(|| panic!("{}: no option in {:?}", page.name, row[0]));
                let [variable, default] =
                    [variable, default].map(|column| row[column].codes.first().cloned());
                flags.insert(name.to_owned(), OptionInfo { variable, default });
            }
        }
    }
    for program in PROGRAMS {
        let documented = documented.get(program).cloned().unwrap_or_default();
        for (name, flag) in of_help(program) {
            let Some(row) = documented.get(&name) else { panic!("no table has `{name}` of {program}") };
            assert_eq!(row.variable, flag.variable, "the variable of {name} of {program}");
            // A default without a literal value, such as $STATE_DIRECTORY, is described in words.
            if flag.default.is_some() {
                assert_eq!(row.default, flag.default, "the default of {name} of {program}");
            }
        }
        let output = of_help(program);
        let superfluous: Vec<_> = documented.keys().filter(|name| !output.contains_key(*name)).collect();
        assert!(superfluous.is_empty(), "{program} has no {superfluous:?}");
    }
}
