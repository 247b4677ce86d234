"""The work of the bench as SQL of DuckDB: python3 duck.py FOLDER OUT."""

import sys

import duckdb

folder, out = sys.argv[1:]
size = "maximum_object_size = 4000000000"
duckdb.sql(f"""
create table made as
with q as (
    select unnest(questions) as q from
    read_json('{folder}/v2_OpenEnded_mscoco_train2014_questions.json', {size},
        columns = {{questions: 'struct(image_id bigint, question varchar, question_id bigint)[]'}})
), a as (
    select unnest(annotations) as a from
    read_json('{folder}/v2_mscoco_train2014_annotations.json', {size}, columns = {{annotations:
        'struct(question_id bigint, multiple_choice_answer varchar, answers struct(answer varchar)[])[]'}})
)
select 'vqav2/train/' || q.question_id as id,
    format('train2014/COCO_train2014_{{:012d}}.jpg', q.image_id) as image,
    replace(['{{}} Answer in a few words.', 'Question: {{}} Answer:', 'Look at the picture. {{}}', '{{}}', 'Say briefly: {{}}']
        [(hash(q.question_id) % 5)::int + 1], '{{}}', q.question) as asked,
    coalesce(nullif(a.multiple_choice_answer, ''), list_mode(list_transform(a.answers, lambda own: own.answer))) as target
from q join a on q.question_id = a.question_id
""")
source = "'vqav2' as task, 'CC-BY-4.0' as licence"
duckdb.sql(f"""copy (select id, [{{path: image}}] as images,
    [{{role: 'user', content: asked}}, {{role: 'assistant', content: target}}] as messages, {source} from made)
    to '{out}/lines.jsonl' (format json)""")
duckdb.sql(f"""copy (select id, image, [{{"from": 'human', value: '<image>' || chr(10) || asked}},
    {{"from": 'gpt', value: target}}] as conversations, {source} from made)
    to '{out}/llava.json' (format json, array true)""")
