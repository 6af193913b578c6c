//! Reads a source file and writes it anew with every change in it, each behind a switch.
//!
//! A change is `if crate::mutant::on(ID) { changed } else { as it was }`, so one build holds all of them and a run chooses
//! one. Positions stay on their lines: only what is changed is longer.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Lit, ReturnType, Stmt, Type, UnOp};

/// One change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mutant {
    /// Its number: the switch.
    pub id: u32,
    /// The file, under `src`.
    pub file: String,
    /// The line of the source.
    pub line: usize,
    /// The function that it is in.
    pub function: String,
    /// What is changed, in short.
    pub change: String,
    /// Which of several equal changes of the function, from 0.
    pub nth: usize,
}

impl Mutant {
    /// Its name, which stays when lines move.
    #[must_use]
    pub fn key(&self) -> String {
        let nth = if self.nth == 0 { String::new() } else { format!(" #{}", self.nth + 1) };
        format!("{} {}: {}{nth}", self.file, self.function, self.change)
    }
}

/// A piece of the source that is written otherwise.
struct Edit {
    range: Range<usize>,
    text: String,
}

struct Changer<'a> {
    source: &'a str,
    file: &'a str,
    excluded: &'a BTreeSet<u32>,
    mutants: &'a mut Vec<Mutant>,
    next: &'a mut u32,
    function: Vec<String>,
    edits: Vec<Edit>,
}

/// Changes a file; `next` is the next free number. Numbers of `excluded` changes are used up and not written.
///
/// # Errors
/// The file is no Rust.
pub fn change(
    source: &str,
    file: &str,
    excluded: &BTreeSet<u32>,
    next: &mut u32,
    mutants: &mut Vec<Mutant>,
) -> syn::Result<String> {
    let parsed = syn::parse_file(source)?;
    let mut changer = Changer { source, file, excluded, mutants, next, function: Vec::new(), edits: Vec::new() };
    changer.visit_file(&parsed);
    let edits = std::mem::take(&mut changer.edits);
    Ok(changer.text(0..source.len(), &edits))
}

fn range(node: &impl syn::spanned::Spanned) -> Range<usize> {
    node.span().byte_range()
}

/// One line of what is long.
fn brief(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(70) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

/// Whether a condition has a `let` in it, which must stay where it is.
fn has_let(e: &Expr) -> bool {
    match e {
        Expr::Let(_) => true,
        Expr::Binary(b) => has_let(&b.left) || has_let(&b.right),
        Expr::Paren(p) => has_let(&p.expr),
        _ => false,
    }
}

fn on(id: u32) -> String {
    format!("crate::mutant::on({id})")
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || a.path().is_ident("cfg") && a.meta.require_list().is_ok_and(|l| l.tokens.to_string().contains("test"))
    })
}

impl Changer<'_> {
    /// The text of a range with the edits that are in it.
    fn text(&self, range: Range<usize>, edits: &[Edit]) -> String {
        let mut inside: Vec<&Edit> =
            edits.iter().filter(|e| e.range.start >= range.start && e.range.end <= range.end).collect();
        inside.sort_by_key(|e| (e.range.start, e.range.end));
        let mut text = String::new();
        let mut at = range.start;
        for edit in inside {
            text.push_str(&self.source[at..edit.range.start]);
            text.push_str(&edit.text);
            at = edit.range.end;
        }
        text.push_str(&self.source[at..range.end]);
        text
    }

    /// A new change at this place; none if it is excluded.
    fn mutant(&mut self, at: &Range<usize>, change: String) -> Option<u32> {
        let id = *self.next;
        *self.next += 1;
        let line = self.source[..at.start].matches('\n').count() + 1;
        let function = self.function.join("::");
        let same = |m: &&Mutant| m.file == self.file && m.function == function && m.change == change;
        let nth = self.mutants.iter().filter(same).count();
        self.mutants.push(Mutant { id, file: self.file.to_owned(), line, function, change, nth });
        (!self.excluded.contains(&id)).then_some(id)
    }

    /// An expression written in other ways: each way is a change.
    fn ways(&mut self, at: Range<usize>, was: String, ways: Vec<(String, String)>) {
        let mut text = String::new();
        for (name, way) in ways {
            if let Some(id) = self.mutant(&at, name) {
                text.push_str(&format!("if {} {{ {way} }} else ", on(id)));
            }
        }
        let text = if text.is_empty() { was } else { format!("({text}{{ {was} }})") };
        self.edits.push(Edit { range: at, text });
    }

    /// A condition without `let` that is also taken for true, and for false.
    fn condition(&mut self, at: Range<usize>, was: &str) {
        let name = brief(&self.source[at.clone()]);
        let always = self.mutant(&at, format!("if {name} -> if true"));
        let never = self.mutant(&at, format!("if {name} -> if false"));
        let mut text = format!("({was})");
        if let Some(id) = never {
            text = format!("(!{} && {text})", on(id));
        }
        if let Some(id) = always {
            text = format!("({} || {text})", on(id));
        }
        self.edits.push(Edit { range: at, text });
    }

    fn binary(&mut self, e: &syn::ExprBinary, inner: Vec<Edit>) {
        let (left, right, whole) = (range(&e.left), range(&e.right), range(e));
        let (l, r) = (self.text(left.clone(), &inner), self.text(right.clone(), &inner));
        let op = &self.source[range(&e.op)];
        let other = match e.op {
            BinOp::Lt(_) => "<=",
            BinOp::Le(_) => "<",
            BinOp::Gt(_) => ">=",
            BinOp::Ge(_) => ">",
            BinOp::Eq(_) => "!=",
            BinOp::Ne(_) => "==",
            BinOp::Add(_) => "-",
            BinOp::Sub(_) => "+",
            BinOp::AddAssign(_) => "-=",
            BinOp::SubAssign(_) => "+=",
            BinOp::And(_) | BinOp::Or(_) => {
                let and = matches!(e.op, BinOp::And(_));
                for (operand, at, text) in [(&e.left, left, l), (&e.right, right, r)] {
                    let same = matches!(&**operand, Expr::Binary(b)
                        if matches!((&b.op, &e.op), (BinOp::And(_), BinOp::And(_)) | (BinOp::Or(_), BinOp::Or(_))));
                    let name = brief(&self.source[at.clone()]);
                    let change = if and { format!("&& {name} -> && true") } else { format!("|| {name} -> || false") };
                    let id = if same || has_let(operand) { None } else { self.mutant(&at, change) };
                    let text = match id {
                        Some(id) if and => format!("({} || ({text}))", on(id)),
                        Some(id) => format!("(!{} && ({text}))", on(id)),
                        None => text,
                    };
                    self.edits.push(Edit { range: at, text });
                }
                return;
            }
            _ => {
                self.edits.extend(inner);
                return;
            }
        };
        let name = format!("{} -> {other}", brief(&self.source[whole.clone()]));
        let was = self.text(whole.clone(), &inner);
        debug_assert!(was.contains(op));
        self.ways(whole, was, vec![(name, format!("{l} {other} {r}"))]);
    }

    /// What an expression becomes, whose parts have been visited.
    fn expression(&mut self, e: &Expr, inner: Vec<Edit>) {
        let whole = range(e);
        let was = self.text(whole.clone(), &inner);
        match e {
            Expr::Binary(b) => self.binary(b, inner),
            Expr::Unary(u) if matches!(u.op, UnOp::Not(_)) => {
                let without = self.text(range(&u.expr), &inner);
                let name = format!("{} -> without !", brief(&self.source[whole.clone()]));
                self.ways(whole, was, vec![(name, without)]);
            }
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(n) => {
                    let Ok(value) = n.base10_parse::<u128>() else { return };
                    let suffix = n.suffix();
                    let mut ways = vec![(format!("{was} -> {}", value + 1), format!("{}{suffix}", value + 1))];
                    if value > 0 {
                        ways.push((format!("{was} -> {}", value - 1), format!("{}{suffix}", value - 1)));
                    }
                    self.ways(whole, was, ways);
                }
                Lit::Bool(b) => {
                    let other = !b.value;
                    self.ways(whole, was.clone(), vec![(format!("{was} -> {other}"), other.to_string())]);
                }
                _ => {}
            },
            Expr::MethodCall(call) => {
                let name = call.method.to_string();
                let other = match name.as_str() {
                    "min" => "max",
                    "max" => "min",
                    "any" => "all",
                    "all" => "any",
                    "is_some" => "is_none",
                    "is_none" => "is_some",
                    "is_some_and" => "is_none_or",
                    "is_none_or" => "is_some_and",
                    _ => {
                        self.edits.extend(inner);
                        return;
                    }
                };
                let at = range(&call.method);
                let before = self.text(whole.start..at.start, &inner);
                let after = self.text(at.end..whole.end, &inner);
                let change = format!(".{name} -> .{other} in {}", brief(&self.source[whole.clone()]));
                self.ways(whole, was, vec![(change, format!("{before}{other}{after}"))]);
            }
            _ => self.edits.extend(inner),
        }
    }

    /// The beginning of a function: it may return at once.
    fn body(&mut self, output: &ReturnType, block: &syn::Block) {
        if block.stmts.is_empty() {
            return;
        }
        let kind = match output {
            ReturnType::Default => "()".to_owned(),
            ReturnType::Type(_, of) => match &**of {
                Type::Path(p) => self.source[range(p)].split_whitespace().collect(),
                _ => return,
            },
        };
        let ways: &[&str] = match kind.as_str() {
            "()" => &[""],
            "bool" => &["true", "false"],
            "u8" | "u16" | "u32" | "u64" | "usize" => &["0"],
            k if k.starts_with("Result<(),") => &["Ok(())"],
            k if k.starts_with("Option<") => &["None"],
            k if k.starts_with("Vec<") => &["Vec::new()"],
            _ => return,
        };
        let at = range(&block.brace_token.span.open()).end;
        let mut text = String::new();
        for way in ways {
            let change = format!("returns {} at once", if way.is_empty() { "()" } else { way });
            if let Some(id) = self.mutant(&(at..at), change) {
                text.push_str(&format!(" if {} {{ return {way}; }}", on(id)));
            }
        }
        self.edits.push(Edit { range: at..at, text });
    }

    fn function(&mut self, signature: &syn::Signature, attributes: &[syn::Attribute], block: &syn::Block) {
        if signature.constness.is_some() || is_test(attributes) {
            return;
        }
        self.function.push(signature.ident.to_string());
        self.body(&signature.output, block);
        self.visit_block(block);
        self.function.pop();
    }
}

/// Statements whose leaving out may show.
fn can_go(e: &Expr) -> bool {
    match e {
        Expr::MethodCall(_) | Expr::Call(_) | Expr::Assign(_) | Expr::ForLoop(_) => true,
        Expr::Binary(b) => matches!(b.op, BinOp::AddAssign(_) | BinOp::SubAssign(_)),
        Expr::Try(t) => can_go(&t.expr),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Changer<'_> {
    fn visit_expr(&mut self, e: &'ast Expr) {
        let outer = std::mem::take(&mut self.edits);
        match e {
            Expr::Repeat(r) => self.visit_expr(&r.expr),
            Expr::Const(_) | Expr::Macro(_) => {}
            _ => visit::visit_expr(self, e),
        }
        let inner = std::mem::replace(&mut self.edits, outer);
        self.expression(e, inner);
    }

    fn visit_expr_if(&mut self, e: &'ast syn::ExprIf) {
        let outer = std::mem::take(&mut self.edits);
        self.visit_expr(&e.cond);
        let inner = std::mem::replace(&mut self.edits, outer);
        let at = range(&e.cond);
        let was = self.text(at.clone(), &inner);
        if has_let(&e.cond) {
            let change = format!("if {} -> if false", brief(&self.source[at.clone()]));
            let text = match self.mutant(&at, change) {
                Some(id) => format!("!{} && {was}", on(id)),
                None => was,
            };
            self.edits.push(Edit { range: at, text });
        } else {
            self.condition(at, &was);
        }
        self.visit_block(&e.then_branch);
        if let Some((_, other)) = &e.else_branch {
            self.visit_expr(other);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            let outer = std::mem::take(&mut self.edits);
            self.visit_expr(guard);
            let inner = std::mem::replace(&mut self.edits, outer);
            let at = range(guard);
            let was = self.text(at.clone(), &inner);
            if has_let(guard) {
                self.edits.extend(inner);
            } else {
                self.condition(at, &was);
            }
        }
        self.visit_expr(&arm.body);
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let outer = std::mem::take(&mut self.edits);
        visit::visit_stmt(self, statement);
        let inner = std::mem::replace(&mut self.edits, outer);
        match statement {
            Stmt::Expr(e, semicolon) if can_go(e) && (semicolon.is_some() || matches!(e, Expr::ForLoop(_))) => {
                let at = range(statement);
                let was = self.text(at.clone(), &inner);
                let change = format!("without {}", brief(&self.source[at.clone()]));
                let text = match self.mutant(&at, change) {
                    Some(id) => format!("if !{} {{ {was} }}", on(id)),
                    None => was,
                };
                self.edits.push(Edit { range: at, text });
            }
            _ => self.edits.extend(inner),
        }
    }

    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        self.function(&f.sig, &f.attrs, &f.block);
    }

    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.function(&f.sig, &f.attrs, &f.block);
    }

    fn visit_item_impl(&mut self, i: &'ast syn::ItemImpl) {
        let of = i.trait_.as_ref().and_then(|(_, path, _)| path.segments.last()).map(|s| s.ident.to_string());
        if of.is_some_and(|name| matches!(name.as_str(), "Debug" | "Display" | "Error")) {
            return;
        }
        let name = self.source[range(&i.self_ty)].to_owned();
        self.function.push(name);
        visit::visit_item_impl(self, i);
        self.function.pop();
    }

    fn visit_item_mod(&mut self, m: &'ast syn::ItemMod) {
        if !is_test(&m.attrs) {
            visit::visit_item_mod(self, m);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_macro(&mut self, _: &'ast syn::Macro) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(source: &str) -> (Vec<String>, String) {
        let (mut mutants, mut next) = (Vec::new(), 1);
        let text = change(source, "f.rs", &BTreeSet::new(), &mut next, &mut mutants).expect("is Rust");
        syn::parse_file(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        (mutants.into_iter().map(|m| m.change).collect(), text)
    }

    #[test]
    fn operators_conditions_statements_and_returns_are_changed() {
        let (changes, text) =
            changed("fn f(a: u64, b: &mut u64) -> bool { if a < 3 && !g() { *b += 1; h(); } a == 2 }");
        for expected in [
            "returns true at once",
            "returns false at once",
            "a < 3 -> <=",
            "&& a < 3 -> && true",
            "!g() -> without !",
            "if a < 3 && !g() -> if false",
            "without h();",
            "*b += 1 -> -=",
            "without *b += 1;",
            "a == 2 -> !=",
            "2 -> 3",
        ] {
            assert!(changes.iter().any(|c| c == expected), "{expected} is not in {changes:#?}");
        }
        assert_eq!(text.lines().count(), 1, "lines stay: {text}");
    }

    #[test]
    fn tests_constants_patterns_and_lets_stay() {
        let source = "const A: u64 = 1; #[cfg(test)] mod t { fn x() -> bool { 1 < 2 } } \
                      fn f(o: Option<u64>) { if let Some(1) = o && o != None { g(); } }";
        let (changes, _) = changed(source);
        assert_eq!(
            changes,
            [
                "returns () at once",
                "o != None -> ==",
                "&& o != None -> && true",
                "if let Some(1) = o && o != None -> if false",
                "without g();"
            ]
        );
    }

    #[test]
    fn an_excluded_change_keeps_its_number_and_is_not_written() {
        let source = "fn f(a: u64) -> u64 { if a > 7 { g(); } a }";
        let (mut mutants, mut next) = (Vec::new(), 1);
        let all: BTreeSet<u32> = (1..100).collect();
        let text = change(source, "f.rs", &all, &mut next, &mut mutants).expect("is Rust");
        assert!(!text.contains("mutant::on") && next > 5, "{text}");
    }
}
