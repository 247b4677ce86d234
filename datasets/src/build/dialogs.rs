//! Packs several questions about one image into one dialog.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lynxdata_prompts::Wording;

use super::{Conversation, PackedRecord, Role};

/// The maximum number of dialogs that wait for more questions. Datasets usually list the questions
/// about an image near each other. If another dialog begins, the oldest one is closed.
const OPEN: usize = 1 << 16;

/// Packs single-question conversations about the same image or video into dialogs.
///
/// Questions keep their order and their wordings. Conversations whose wording has no slots, such as
/// captions, do not ask about a detail and are not packed; neither are conversations without media
/// and dialogs. The content of a dialog depends only on the order of the native rows.
#[derive(Debug)]
pub struct Dialogs {
    /// The maximum number of questions of a dialog.
    most: usize,
    /// The names of wordings with slots.
    with_slots: BTreeSet<String>,
    /// Dialogs that wait for more questions, in the order in which they began, with the key of
    /// their media.
    open: BTreeMap<u64, (String, Conversation)>,
    numbers: HashMap<String, u64>,
    begun: u64,
}

impl Dialogs {
    /// Creates a packer. Without `most`, nothing is packed. `wordings` are those of the task.
    pub fn new(most: Option<u32>, wordings: &[Wording]) -> Self {
        let with_slots = wordings.iter().filter(|own| !own.template.slots.is_empty()).map(Wording::name);
        Self {
            most: most.map_or(1, |most| most as usize),
            with_slots: with_slots.collect(),
            open: BTreeMap::new(),
            numbers: HashMap::new(),
            begun: 0,
        }
    }

    /// Adds conversations and returns those that are complete.
    pub fn pack(&mut self, conversations: Vec<Conversation>) -> Vec<Conversation> {
        if self.most < 2 {
            return conversations;
        }
        conversations.into_iter().filter_map(|conversation| self.take(conversation)).collect()
    }

    /// Returns the dialogs that still wait for more questions, the oldest first.
    pub fn finish(self) -> Vec<Conversation> {
        self.open.into_values().map(|(_, dialog)| dialog).collect()
    }

    fn take(&mut self, conversation: Conversation) -> Option<Conversation> {
        let talk = conversation.messages.iter().filter(|message| message.role != Role::System).count();
        let has_media = !conversation.images.is_empty() || conversation.video.is_some();
        if talk != 2 || !has_media || !self.with_slots.contains(&conversation.template) {
            return Some(conversation);
        }
        let about = about(&conversation);
        if let Some((number, (_, dialog))) =
            self.numbers.get(&about).and_then(|number| Some((*number, self.open.get_mut(number)?)))
        {
            append(dialog, conversation);
            return if dialog.packed.len() < self.most { None } else { self.end(number) };
        }
        self.numbers.insert(about.clone(), self.begun);
        self.open.insert(self.begun, (about, conversation));
        self.begun += 1;
        let (oldest, _) = self.open.first_key_value()?;
        if self.open.len() > OPEN { self.end(*oldest) } else { None }
    }

    fn end(&mut self, number: u64) -> Option<Conversation> {
        let (about, dialog) = self.open.remove(&number)?;
        self.numbers.remove(&about);
        Some(dialog)
    }
}

/// Returns the key that all questions of a dialog share: images, video and system message.
fn about(conversation: &Conversation) -> String {
    let mut about: Vec<&str> = conversation.images.iter().map(|image| image.path.as_str()).collect();
    let video = conversation.video.as_ref().map(|video| format!("{}\t{:?}\t{:?}", video.path, video.start, video.end));
    about.extend(video.as_deref());
    let system = conversation.messages.iter().find(|message| message.role == Role::System);
    about.extend(["\0", system.map_or("", |system| &system.content)]);
    about.join("\n")
}

fn append(dialog: &mut Conversation, conversation: Conversation) {
    if dialog.packed.is_empty() {
        dialog.packed.push(PackedRecord::of(dialog));
    }
    dialog.packed.push(PackedRecord::of(&conversation));
    dialog.boxes.extend(conversation.boxes);
    dialog.messages.extend(conversation.messages.into_iter().filter(|message| message.role != Role::System));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::ImageReference;
    use crate::export::tests::conversation;

    fn asked(question: &str, picture: &str) -> Conversation {
        let images = vec![ImageReference { path: picture.to_owned() }];
        Conversation { images, ..conversation("vqa/plain", &[question, "an answer"]) }
    }

    fn packed(most: u32, conversations: Vec<Conversation>) -> Vec<(String, usize)> {
        let banks = lynxdata_prompts::Banks::shipped().unwrap();
        let wordings: Vec<Wording> = banks.wordings().collect();
        let mut dialogs = Dialogs::new(Some(most), &wordings);
        dialogs.with_slots.insert("vqa/plain".to_owned());
        let mut done = dialogs.pack(conversations);
        done.extend(dialogs.finish());
        done.into_iter().map(|dialog| (dialog.id, dialog.messages.len() / 2)).collect()
    }

    #[test]
    fn questions_about_one_picture_become_one_dialog() {
        let all = || vec![asked("a", "1"), asked("b", "2"), asked("c", "1"), asked("d", "1"), asked("e", "1")];
        let named = |list: &[(&str, usize)]| -> Vec<(String, usize)> {
            list.iter().map(|(id, turns)| (format!("own/train/{id}"), *turns)).collect()
        };
        assert_eq!(packed(3, all()), named(&[("a", 3), ("b", 1), ("e", 1)]));
        assert_eq!(packed(9, all()), named(&[("a", 4), ("b", 1)]));
        assert_eq!(packed(1, all()).len(), 5);
    }

    #[test]
    fn every_question_keeps_where_it_comes_from() {
        let mut dialog = asked("a", "1");
        append(&mut dialog, Conversation { source_row: 9, choice_order: vec![1, 0], ..asked("b", "1") });
        let sources: Vec<(&str, u64)> = dialog.packed.iter().map(|own| (own.id.as_str(), own.source_row)).collect();
        assert_eq!(sources, [("own/train/a", 7), ("own/train/b", 9)]);
        assert_eq!(dialog.packed[1].choice_order, [1, 0]);
        assert_eq!(dialog.messages[2].content, "b");
    }

    #[test]
    fn captions_text_and_dialogs_stay_alone() {
        let caption = || Conversation { template: "caption/describe".to_owned(), ..asked("Describe it.", "1") };
        let text = || Conversation { images: Vec::new(), ..asked("a", "1") };
        let dialog = || conversation("vqa/plain", &["a", "b", "c", "d"]);
        let all = vec![caption(), caption(), text(), text(), dialog(), dialog()];
        let done: Vec<usize> = packed(9, all).into_iter().map(|(_, turns)| turns).collect();
        assert_eq!(done, [1, 1, 1, 1, 2, 2]);
    }
}
