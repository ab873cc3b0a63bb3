-- files_of_ids: the files in which records stand that were seen again.
-- grain: file
-- inputs: landed (id, file: the path of the file it is in), seen (id)
-- A record may stand on another day than the one that it was created on by what is said now.
SELECT DISTINCT landed.file
FROM landed
INNER JOIN seen ON landed.id = seen.id
ORDER BY landed.file NULLS FIRST
