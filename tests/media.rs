//! Images of tasks: in archives, in rows, missing, copied from elsewhere, and videos.

use std::fs;
use std::path::Path;

use lynxdata_report::data::data_uri;
use serde_json::{Value, json};

use crate::machine::video;
use crate::support::{files, lynxdata, repository};
use crate::web::Web;

/// Returns an image, a different one for every number from 1 to 9.
fn picture(number: usize) -> Vec<u8> {
    let folder = repository().join("examples/quickstart/images");
    let names = files(&folder);
    fs::read(folder.join(&names[number])).unwrap()
}

/// Writes files of VQAv2 with one question about each of some images of COCO, and two about the
/// first.
fn write_questions(folder: &Path, pictures: &[u64]) {
    let ids: Vec<u64> = pictures.iter().chain(&pictures[..1]).copied().collect();
    let questions = ids
        .iter()
        .zip(1..)
        .map(|(id, number)| json!({"question_id": number, "image_id": id, "question": "What is it?"}));
    let answers = (1..=ids.len()).map(|number| json!({"question_id": number, "multiple_choice_answer": "net"}));
    let questions = json!({ "questions": questions.collect::<Vec<_>>() });
    let answers = json!({ "annotations": answers.collect::<Vec<_>>() });
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("v2_OpenEnded_mscoco_train2014_questions.json"), questions.to_string()).unwrap();
    fs::write(folder.join("v2_mscoco_train2014_annotations.json"), answers.to_string()).unwrap();
}

fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut out = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, *bytes).unwrap();
    }
    out.finish().unwrap();
}

fn write_recipe(folder: &Path, instruct: &str) {
    fs::write(folder.join("recipe.toml"), format!("output = \"run\"\n[instruct]\n{instruct}\n")).unwrap();
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn pictures_of_archives_and_rows_become_files_once_and_the_rest_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_questions(&folder.join("vqa"), &[9, 10, 11, 12]);
    let name = |id: u64| format!("train2014/COCO_train2014_{id:012}.jpg");
    let members: [(&str, &[u8]); 3] = [(&name(9), &picture(1)), (&name(10), &picture(2)), (&name(11), b"<html>")];
    write_tar(&folder.join("vqa/train2014.tar"), &members);
    // Rows with their images in base64, as in many TSV and JSON files.
    fs::create_dir(folder.join("own")).unwrap();
    let base64 = data_uri("image/jpeg", &picture(3));
    let (_, base64) = base64.rsplit_once(',').unwrap();
    let rows = [
        json!({"id": 1, "image": base64, "q": "What?", "a": "a dog"}),
        json!({"id": 2, "image": base64, "q": "Who?", "a": "a cat"}),
    ];
    fs::write(folder.join("own/train.jsonl"), format!("{}\n{}\n", rows[0], rows[1])).unwrap();
    fs::create_dir(folder.join("tasks")).unwrap();
    let task = r#"
name = "own"
group = "vqa"
licence = "CC0-1.0"
commercial_use = "yes"
homepage = "here"
cite = "none"
verified = "fixture"
splits = { train = 2 }
prompts = ["vqa"]
id = "q.id"
[pictures]
licence = "CC0-1.0"
commercial_use = "yes"
[tables.q]
file = "{split}.jsonl"
[media]
image = "q.image"
[slots]
question = "q.q"
[answers]
phrase = "q.a"
"#;
    fs::write(folder.join("tasks/own.toml"), task).unwrap();
    let tasks = r#"
catalogue = "tasks"
formats = ["parquet", "llava"]
tasks = [{ name = "vqav2", root = "vqa", split = "train" }, { name = "own", root = "own", split = "train" }]
[instruct.mixture]
groups = [{ name = "all", weight = 1, tasks = ["vqav2", "own"] }]
"#;
    write_recipe(folder, tasks);
    let told = ["instruct/left_out/vqav2-train.jsonl", "missing_image", "not_an_image"];
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&told);
    let run = folder.join("run");
    let kept = files(&run.join("instruct/pictures"));
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert_eq!(fs::read(run.join("instruct/pictures/vqav2-train").join(name(9))).unwrap(), picture(1));
    // Every path of an export leads to a file below the folder of its part, and of the mixture to
    // one below the folder of all parts.
    for (file, root) in [
        ("instruct/llava/vqav2-train.json", "instruct/pictures/vqav2-train"),
        ("instruct/llava/own-train.json", "instruct/pictures/own-train"),
        ("mixture/llava.json", "instruct/pictures"),
    ] {
        let samples: Value = serde_json::from_slice(&fs::read(run.join(file)).unwrap()).unwrap();
        let samples = samples.as_array().unwrap();
        assert!(samples.len() >= 2, "{file}");
        for sample in samples {
            let path = run.join(root).join(sample["image"].as_str().unwrap());
            assert!(path.is_file(), "{file}: {}", path.display());
        }
    }
    let listed = lines(&run.join("instruct/left_out/vqav2-train.jsonl"));
    let said = |place: usize| (listed[place]["id"].as_str().unwrap(), listed[place]["reason"].as_str().unwrap());
    assert_eq!(listed.len(), 2);
    assert_eq!((said(0), said(1)), (("vqav2/train/3", "not_an_image"), ("vqav2/train/4", "missing_image")));
    assert_eq!(listed[1]["path"], name(12).as_str());
    lynxdata(folder, &["verify", "run"]).ended_with(0);
    let plan = lynxdata(folder, &["instruct", "recipe.toml", "--dry-run"]).ended_with(0);
    assert!(plan.stdout.contains("every part is there"), "{plan}");
    // If every format embeds its images, those of archives are not unpacked.
    let parquet = "instruct.formats=[\"parquet\"]";
    lynxdata(folder, &["instruct", "recipe.toml", "--set", parquet]).ended_with(0);
    assert_eq!(files(&run.join("instruct/pictures")).len(), 1, "that of the rows");
}

#[test]
fn hydrate_says_what_is_missing_copies_what_lies_elsewhere_and_fetches_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_questions(&folder.join("vqa"), &[9, 10, 11, 12]);
    let name = |id: u64| format!("train2014/COCO_train2014_{id:012}.jpg");
    fs::create_dir_all(folder.join("vqa/train2014")).unwrap();
    fs::write(folder.join("vqa").join(name(9)), picture(1)).unwrap();
    // COCO 2017 has the same image under another name.
    write_tar(&folder.join("train2017.tar"), &[("train2017/000000000010.jpg", &picture(2))]);
    let said = ["hydrate", "vqav2", "vqa", "--also", "train2017.tar"];
    let expected =
        "coco-train2014: 4 of 82,783 needed, 1 present, 1 elsewhere, 2 missing (2 of them can be downloaded)";
    let told = lynxdata(folder, &said).ended_with(1).says(&["--fetch copies images that were found elsewhere"]);
    assert!(told.stdout.contains(expected), "{told}");
    // A mirror on this machine has one of the two missing images, at its second address.
    fs::create_dir(folder.join("site")).unwrap();
    fs::write(folder.join("site/11.jpg"), picture(4)).unwrap();
    let web = Web::start(&[("pairs/", &folder.join("site"))]);
    let (first, second) = (web.url("missing/{id}.jpg"), web.url("pairs/{id}.jpg"));
    let mirror = format!(
        "[coco-train2014]\ntitle = \"mirror\"\nhomepage = \"here\"\nname = 'COCO_train2014_0*([0-9]+)\\.jpg$'\nids = \"coco\"\n\
         path = \"train2014/COCO_train2014_{{id:12}}.jpg\"\nurls = [\"{first}\", \"{second}\"]\n"
    );
    fs::write(folder.join("mirror.toml"), mirror).unwrap();
    let fetch = [&said[..], &["--collections", "mirror.toml", "--fetch", "--json"]].concat();
    let refused = lynxdata(folder, &fetch).ended_with(1).json();
    assert_eq!(refused["brought"]["copied"], 1);
    assert_eq!(refused["brought"]["fetched"]["forbidden_address"], 4, "{refused}");
    let allowed = [&fetch[..], &["--allow-private-addresses"]].concat();
    let found = lynxdata(folder, &allowed).ended_with(1).json();
    assert_eq!(found["brought"], json!({"copied": 0, "fetched": {"not_found": 3, "ok": 1}}), "{found}");
    let coco = &found["collections"][0];
    assert_eq!((&coco["there"], &coco["missing"], &coco["example"]), (&json!(3), &json!(1), &json!(name(12))));
    for (id, number) in [(10, 2), (11, 4)] {
        assert_eq!(fs::read(folder.join("vqa").join(name(id))).unwrap(), picture(number), "{id}");
    }
    fs::write(folder.join("vqa").join(name(12)), picture(5)).unwrap();
    lynxdata(folder, &["hydrate", "vqav2", "vqa"]).ended_with(0);
    // Files that are not whole images are replaced, and nobody copies one.
    fs::write(folder.join("vqa").join(name(9)), "").unwrap();
    fs::write(folder.join("vqa").join(name(10)), "<html>").unwrap();
    fs::write(folder.join("vqa").join(name(11)), &picture(4)[..100]).unwrap();
    write_tar(&folder.join("broken2017.tar"), &[("train2017/000000000009.jpg", b"<html>")]);
    let broken = lynxdata(folder, &["hydrate", "vqav2", "vqa", "--also", "broken2017.tar"]).ended_with(1).stdout;
    assert!(broken.contains("1 present, 0 elsewhere, 3 missing"), "{broken}");
    let of_broken = format!("3 of them have a file that is empty, cut off or not an image, for example {}", name(9));
    assert!(broken.contains(&of_broken), "{broken}");
    let again = lynxdata(folder, &[&allowed[..], &["--also", "broken2017.tar"]].concat()).ended_with(1).json();
    assert_eq!(again["brought"], json!({"copied": 1, "fetched": {"not_found": 3, "ok": 1}}), "{again}");
    let coco = &again["collections"][0];
    assert_eq!((&coco["there"], &coco["missing"], &coco["broken"]), (&json!(3), &json!(1), &json!(1)));
    lynxdata(folder, &["hydrate", "vqav2", "vqa", "--also", "train20I7.tar"]).ended_with(2).says(&[
        "--also",
        "train20I7.tar",
        "there is no such file or folder",
    ]);
    fs::create_dir(folder.join("empty")).unwrap();
    lynxdata(folder, &["hydrate", "vqav2", "empty"])
        .ended_with(1)
        .says(&["v2_OpenEnded_mscoco_train2014_questions.json"]);
    lynxdata(folder, &["hydrate", "vqav3", "vqa"]).ended_with(2).says(&["did you mean \"vqav2\"?"]);
}

#[test]
fn five_frames_stand_for_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir_all(folder.join("msrvtt/videos")).unwrap();
    let row = |id, video| json!({"id": id, "video_id": video, "question": "what is shown", "answer": "a test", "category_id": 1});
    fs::write(folder.join("msrvtt/train_qa.json"), json!([row(1, 7), row(2, 7), row(3, 8)]).to_string()).unwrap();
    if !video("testsrc=size=64x48:rate=10:duration=2", &folder.join("msrvtt/videos/video7.mp4")) {
        return;
    }
    write_recipe(folder, "frames = 5\ntasks = [{ name = \"msrvtt_qa\", root = \"msrvtt\", split = \"train\" }]");
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["missing_video"]);
    let conversations = lines(&folder.join("run/instruct/conversations/msrvtt_qa-train.jsonl"));
    assert_eq!(conversations.len(), 2);
    let times = ["00000200", "00000600", "00001000", "00001400", "00001800"];
    for conversation in &conversations {
        let paths: Vec<&str> =
            conversation["images"].as_array().unwrap().iter().map(|own| own["path"].as_str().unwrap()).collect();
        assert_eq!(paths, times.map(|time| format!("videos/video7.mp4/{time}.jpg")));
        assert!(conversation.get("video").is_none());
    }
    assert_eq!(files(&folder.join("run/instruct/pictures/msrvtt_qa-train")).len(), 5, "once for both questions");
}
