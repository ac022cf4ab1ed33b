-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE SCHEMA "Odd Schema";
CREATE TABLE "My Table" ("Id" int PRIMARY KEY, "a-b" text, "select" int, "é" text, "with.dot" int, "1st" int);
CREATE TABLE "weird.name" (id int PRIMARY KEY);
CREATE TABLE "Odd Schema"."tÄble$" (id int PRIMARY KEY, v text);
CREATE TABLE "my_table" (id int PRIMARY KEY);
-- @start connector
INSERT INTO "My Table" VALUES (1,'x',2,'é',3,4);
INSERT INTO "weird.name" VALUES (1);
INSERT INTO "Odd Schema"."tÄble$" VALUES (1,'v');
INSERT INTO my_table VALUES (1);
-- @wait
