//! The program of `pipeline/run/examples` runs a recipe by the library alone.

use crate::support::{files, repository};

#[path = "../pipeline/run/examples/run_recipe.rs"]
mod run_recipe;

#[test]
fn another_program_runs_a_recipe_by_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs");
    std::fs::create_dir(&pairs).unwrap();
    let pictures = repository().join("examples/quickstart/images/oxford_pets");
    for (number, name) in files(&pictures).iter().take(3).enumerate() {
        let suffix = name.rsplit('.').next().unwrap();
        std::fs::copy(pictures.join(name), pairs.join(format!("{number}.{suffix}"))).unwrap();
        std::fs::write(pairs.join(format!("{number}.txt")), format!("a pet, number {number}")).unwrap();
    }
    let recipe = folder.path().join("recipe.toml");
    let text = "output = \"run\"\n[source]\npath = \"pairs\"\n[select.all]\n[shards]\nselection = \"all\"\n";
    std::fs::write(&recipe, text).unwrap();
    assert_eq!(run_recipe::run_all(&recipe).unwrap(), lynxdata_run::Ending::Done);
    assert!(folder.path().join("run/report.html").is_file());
}
