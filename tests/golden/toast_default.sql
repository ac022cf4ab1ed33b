-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE EXTENSION hstore;
CREATE TABLE t (id int PRIMARY KEY, n int, txt text, req text NOT NULL, vc varchar(20000), bin bytea, js jsonb, num numeric, ta text[], ia int[], ba bigint[], ua uuid[], bya bytea[], hs hstore, fa float8[], da date[]);
ALTER TABLE t ALTER txt SET STORAGE EXTERNAL, ALTER req SET STORAGE EXTERNAL, ALTER vc SET STORAGE EXTERNAL, ALTER bin SET STORAGE EXTERNAL, ALTER js SET STORAGE EXTERNAL, ALTER num SET STORAGE EXTERNAL, ALTER ta SET STORAGE EXTERNAL, ALTER ia SET STORAGE EXTERNAL, ALTER ba SET STORAGE EXTERNAL, ALTER ua SET STORAGE EXTERNAL, ALTER bya SET STORAGE EXTERNAL, ALTER hs SET STORAGE EXTERNAL, ALTER fa SET STORAGE EXTERNAL, ALTER da SET STORAGE EXTERNAL;
-- @start connector
INSERT INTO t SELECT 1, 0, repeat('t',3000), repeat('r',3000), repeat('v',3000), decode(repeat('ab',3000),'hex'), to_jsonb(repeat('j',3000)), repeat('9',6000)::numeric, array_fill('e'::text,ARRAY[800]), array_fill(7,ARRAY[800]), array_fill(8::bigint,ARRAY[500]), array_fill('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid,ARRAY[300]), ARRAY[decode(repeat('cd',3000),'hex')], hstore('k',repeat('h',3000)), array_fill(1.5::float8,ARRAY[500]), array_fill('2024-01-01'::date,ARRAY[800]);
UPDATE t SET n=1 WHERE id=1;
UPDATE t SET txt=repeat('T',3000) WHERE id=1;
UPDATE t SET id=2 WHERE id=1;
UPDATE t SET txt=NULL, bin=NULL WHERE id=2;
DELETE FROM t;
-- @wait
