//! Modules of a crate, and which of them refer to which.
//!
//! The analysis is static. It follows `mod` declarations from `lib.rs` and `main.rs`, and resolves every path that starts with
//! `crate`, `self` or `super`, through `use` declarations of other modules too, so that a re-export does not hide a
//! reference. Code under `#[cfg(test)]` and the contents of macro calls are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A module's path from the root of its crate, such as `["state", "explain"]`.
pub type ModulePath = Vec<String>;

/// One crate, parsed.
#[derive(Debug, Default)]
pub struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

/// One module.
#[derive(Debug, Default)]
struct Module {
    /// Names that `use` declarations bring in, with the full paths behind them.
    imports: BTreeMap<String, Vec<String>>,
    /// Paths that the code names, from the crate's root.
    references: BTreeSet<Vec<String>>,
    /// Types that are declared here: structs, enums, traits, unions and aliases.
    types: BTreeSet<String>,
}

/// A group of sibling modules that refer to each other in a circle.
#[derive(Debug, Eq, PartialEq)]
pub struct Cycle {
    /// The modules, each with its full path, such as `grpc::api`.
    pub modules: Vec<String>,
    /// One reference of each of them into another one of the group.
    pub references: Vec<String>,
}

impl Crate {
    /// Parses the library, if there is one, and else the program, of the crate in `directory`.
    ///
    /// # Errors
    /// A message with the file that cannot be read or parsed.
    pub fn parse(directory: &Path) -> Result<Self, String> {
        let source = directory.join("src");
        let root = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().find(|file| file.exists());
        let root = root.ok_or_else(|| format!("{} has no lib.rs or main.rs", source.display()))?;
        let mut parsed = Self::default();
        parsed.read(&root, &source, Vec::new())?;
        Ok(parsed)
    }

    /// The types of every module.
    pub fn types(&self) -> impl Iterator<Item = (&ModulePath, &str)> {
        self.modules
            .iter()
            .flat_map(|(path, module)| module.types.iter().map(move |name| (path, name.as_str())))
    }

    /// Finds the groups of siblings that refer to each other in a circle, at every level of the tree.
    #[must_use]
    pub fn cycles(&self) -> Vec<Cycle> {
        let mut edges: BTreeMap<(ModulePath, String, String), String> = BTreeMap::new();
        for (from, module) in &self.modules {
            for reference in &module.references {
                let to = self.resolve(reference, 0);
                let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
                if let (Some(here), Some(there)) = (from.get(common), to.get(common)) {
                    let edge = (from[..common].to_vec(), here.clone(), there.clone());
                    edges
                        .entry(edge)
                        .or_insert_with(|| format!("{} refers to {}", from.join("::"), reference.join("::")));
                }
            }
        }
        let parents: BTreeSet<&ModulePath> = edges.keys().map(|(parent, ..)| parent).collect();
        parents.into_iter().flat_map(|parent| cycles_below(parent, &edges)).collect()
    }

    fn read(&mut self, file: &Path, children: &Path, path: ModulePath) -> Result<(), String> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        self.add(&parsed.items, children, path)
    }

    fn add(&mut self, items: &[syn::Item], directory: &Path, path: ModulePath) -> Result<(), String> {
        let mut module = Module::default();
        for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
            if let syn::Item::Mod(child) = item {
                self.add_child(child, directory, &path)?;
            } else {
                Walk { path: &path, module: &mut module }.visit_item(item);
            }
        }
        self.modules.insert(path, module);
        Ok(())
    }

    fn add_child(&mut self, child: &syn::ItemMod, directory: &Path, path: &ModulePath) -> Result<(), String> {
        let name = child.ident.to_string();
        let below = directory.join(&name);
        let mut path = path.clone();
        path.push(name.clone());
        if let Some((_, items)) = &child.content {
            return self.add(items, &below, path);
        }
        let files: [PathBuf; 2] = [directory.join(format!("{name}.rs")), below.join("mod.rs")];
        let file = files.iter().find(|file| file.exists());
        // A module that a build script writes has no source here.
        file.map_or(Ok(()), |file| self.read(file, &below, path))
    }

    /// Returns the module that the path leads to. `depth` bounds chains of re-exports.
    fn resolve(&self, path: &[String], depth: usize) -> ModulePath {
        let mut at = ModulePath::new();
        for (index, segment) in path.iter().enumerate() {
            let mut child = at.clone();
            child.push(segment.clone());
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            let import = self.modules.get(&at).and_then(|module| module.imports.get(segment));
            if let Some(target) = import.filter(|_| depth < 8) {
                let mut whole = target.clone();
                whole.extend_from_slice(&path[index + 1..]);
                return self.resolve(&whole, depth + 1);
            }
            break;
        }
        at
    }
}

/// Finds the strongly connected groups among the children of `parent`.
fn cycles_below(parent: &ModulePath, edges: &BTreeMap<(ModulePath, String, String), String>) -> Vec<Cycle> {
    let here: Vec<_> = edges.iter().filter(|((of, ..), _)| of == parent).collect();
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for ((_, from, to), _) in &here {
        reach.entry(from).or_default().insert(to);
    }
    // Few modules have a common parent, so a closure by repetition is enough.
    loop {
        let before: usize = reach.values().map(BTreeSet::len).sum();
        let next = reach.clone();
        for reached in reach.values_mut() {
            let further: Vec<&str> =
                reached.iter().filter_map(|to| next.get(to)).flatten().copied().collect();
            reached.extend(further);
        }
        if reach.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let reaches = |from: &str, to: &str| reach.get(from).is_some_and(|reached| reached.contains(to));
    let mut cycles = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for from in reach.keys().copied().filter(|name| reaches(name, name)) {
        if !seen.insert(from) {
            continue;
        }
        let group: Vec<&str> =
            reach.keys().copied().filter(|to| reaches(from, to) && reaches(to, from)).collect();
        seen.extend(&group);
        let within = |name: &String| group.contains(&name.as_str());
        let references = here.iter().filter(|((_, from, to), _)| within(from) && within(to));
        let full =
            |name: &&str| parent.iter().map(String::as_str).chain([*name]).collect::<Vec<_>>().join("::");
        cycles.push(Cycle {
            modules: group.iter().map(full).collect(),
            references: references.map(|(_, reference)| String::clone(reference)).collect(),
        });
    }
    cycles
}

/// Collects the references, imports and types of one module.
struct Walk<'a> {
    path: &'a ModulePath,
    module: &'a mut Module,
}

impl Walk<'_> {
    /// Returns the path from the crate's root, if it starts with `crate`, `self` or `super`.
    fn absolute_path(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" => self.path.clone(),
            "super" => self.path.split_last()?.1.to_vec(),
            _ => return None,
        };
        let mut rest = &path[1..];
        while let Some((first, after)) = rest.split_first()
            && first == "super"
        {
            base.pop();
            rest = after;
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn import(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(prefix, &path.tree);
                prefix.pop();
            }
            syn::UseTree::Name(name) => self.bind(prefix, &name.ident, &name.ident),
            syn::UseTree::Rename(rename) => self.bind(prefix, &rename.ident, &rename.rename),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(prefix, tree)),
            syn::UseTree::Glob(_) => self.refer(prefix),
        }
    }

    fn bind(&mut self, prefix: &[String], name: &syn::Ident, binding: &syn::Ident) {
        let mut path = prefix.to_vec();
        if name != "self" {
            path.push(name.to_string());
        }
        self.refer(&path);
        // A path without `crate` may start at a child of this module, as in `pub use child::Type`.
        let target = self
            .absolute_path(&path)
            .unwrap_or_else(|| self.path.iter().cloned().chain(path.clone()).collect());
        let binding = if name == "self" { path.last().cloned() } else { Some(binding.to_string()) };
        if let Some(binding) = binding {
            // An import of a name from itself would not end.
            if target
                .split_last()
                .is_none_or(|(last, parent)| *last != binding || parent != self.path.as_slice())
            {
                self.module.imports.insert(binding, target);
            }
        }
    }

    fn refer(&mut self, path: &[String]) {
        if let Some(path) = self.absolute_path(path) {
            self.module.references.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        let name = match item {
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            _ => None,
        };
        self.module.types.extend(name.map(ToString::to_string));
        syn::visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.refer(&segments);
        syn::visit::visit_path(self, path);
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses modules that are given by name and text, without files.
    fn parse(modules: &[(&str, &str)]) -> Crate {
        let mut parsed = Crate::default();
        let text: String = modules.iter().map(|(name, text)| format!("mod {name} {{ {text} }}\n")).collect();
        parsed.add(&syn::parse_file(&text).unwrap().items, Path::new("none"), Vec::new()).unwrap();
        parsed
    }

    fn cycles(modules: &[(&str, &str)]) -> Vec<Vec<String>> {
        parse(modules).cycles().into_iter().map(|cycle| cycle.modules).collect()
    }

    #[test]
    fn references_in_one_direction_are_no_cycle() {
        let modules = [("a", "use crate::b::B; pub struct A(B);"), ("b", "pub struct B;")];
        assert_eq!(cycles(&modules), Vec::<Vec<String>>::new());
    }

    #[test]
    fn mutual_references_are_a_cycle() {
        let modules = [
            ("a", "fn f() { super::b::g(); }"),
            ("b", "use crate::c::C; pub fn g() {}"),
            ("c", "use crate::{a, d}; pub struct C;"),
            ("d", ""),
        ];
        assert_eq!(cycles(&modules), [["a", "b", "c"]]);
    }

    #[test]
    fn re_exports_hide_no_cycle() {
        let parent =
            "mod x { use super::Y; pub struct X; } mod y { use super::x::X; pub struct Y; } pub use y::Y;";
        assert_eq!(cycles(&[("parent", parent)]), [["parent::x", "parent::y"]]);
    }

    #[test]
    fn test_code_makes_no_cycle() {
        let modules = [
            ("a", "use crate::b::B; #[cfg(test)] mod tests { use crate::b; } pub struct A;"),
            (
                "b",
                "#[cfg(test)] use crate::a::A; impl B { #[cfg(test)] fn f(_: crate::a::A) {} } pub struct B;",
            ),
        ];
        assert_eq!(cycles(&modules), Vec::<Vec<String>>::new());
    }

    #[test]
    fn types_are_listed_with_their_module() {
        let parsed = parse(&[("a", "struct One; fn f() { enum Two {} } #[cfg(test)] struct Three;")]);
        let types: Vec<_> = parsed.types().map(|(path, name)| (path.join("::"), name)).collect();
        assert_eq!(types, [("a".to_owned(), "One"), ("a".to_owned(), "Two")]);
    }
}
