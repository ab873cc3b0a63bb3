-- files_of_ids: the files in which rows stand that are looked for.
-- grain: file
-- inputs: landed (conversation_id, id, file: the path of the file it is in), wanted (conversation_id,
--   id); conversation_id is NULL where an id is of one row by itself
-- A row may stand on another day than the one that it is of by what is said now.
SELECT DISTINCT landed.file
FROM landed
INNER JOIN wanted
  ON landed.id = wanted.id
  AND landed.conversation_id IS NOT DISTINCT FROM wanted.conversation_id
ORDER BY landed.file NULLS FIRST
