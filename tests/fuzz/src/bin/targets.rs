//! Lists the targets and their maximum input sizes for `scripts/fuzz.sh`.

fn main() {
    for target in maglev_fuzz::TARGETS {
        println!("{} {}", target.name, target.longest);
    }
}
