-- Whether rows of a table may hand values on to each other that only one may have: it has a unique index, or an exclusion
-- constraint, beside its key. Parameters: schema, name, key (text[], in any order)
SELECT EXISTS (
    SELECT FROM pg_index i
      JOIN pg_class c ON c.oid = i.indrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND (i.indisunique OR i.indisexclusion)
       AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL OR i.indisexclusion
            OR ARRAY(SELECT a.attname::text
                       FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, position), pg_attribute a
                      WHERE u.position <= i.indnkeyatts AND a.attrelid = i.indrelid AND a.attnum = u.attnum
                      ORDER BY 1)
               <> ARRAY(SELECT k FROM unnest(%(key)s::text[]) k ORDER BY 1)))
