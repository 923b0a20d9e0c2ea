CREATE SCHEMA IF NOT EXISTS "godwit";
--> statement-breakpoint
CREATE TABLE "godwit"."audit" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "godwit"."audit_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"object" text NOT NULL,
	"data" jsonb
);
--> statement-breakpoint
CREATE TABLE "godwit"."chunks" (
	"run_id" uuid NOT NULL,
	"ordinal" integer NOT NULL,
	"generation" integer NOT NULL,
	"chunk" integer NOT NULL,
	"kind" text NOT NULL,
	"bounds" "bytea" NOT NULL,
	"estimated_rows" bigint NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"lane" text,
	"rows_read" bigint DEFAULT 0 NOT NULL,
	"rows_written" bigint DEFAULT 0 NOT NULL,
	"rows_filtered" bigint DEFAULT 0 NOT NULL,
	"rows_quarantined" bigint DEFAULT 0 NOT NULL,
	"bytes" bigint DEFAULT 0 NOT NULL,
	"rows_moving" bigint DEFAULT 0 NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"started_at" timestamp (3) with time zone,
	"ended_at" timestamp (3) with time zone,
	CONSTRAINT "chunks_run_id_ordinal_generation_chunk_pk" PRIMARY KEY("run_id","ordinal","generation","chunk")
);
--> statement-breakpoint
CREATE TABLE "godwit"."connections" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"name" text NOT NULL,
	"type" text NOT NULL,
	"settings" jsonb NOT NULL,
	"secrets" "bytea",
	"secret_names" text[] DEFAULT '{}' NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "connections_name_unique" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "godwit"."events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "godwit"."events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"run_id" uuid NOT NULL,
	"ordinal" integer,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"level" text DEFAULT 'info' NOT NULL,
	"kind" text NOT NULL,
	"message" text NOT NULL,
	"data" jsonb
);
--> statement-breakpoint
CREATE TABLE "godwit"."installation" (
	"id" text PRIMARY KEY NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "godwit"."job_documents" (
	"job_id" uuid NOT NULL,
	"version" integer NOT NULL,
	"document" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "job_documents_job_id_version_pk" PRIMARY KEY("job_id","version")
);
--> statement-breakpoint
CREATE TABLE "godwit"."job_uses" (
	"job_id" uuid NOT NULL,
	"source_id" uuid,
	"target_id" uuid,
	"alias" text
);
--> statement-breakpoint
CREATE TABLE "godwit"."jobs" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"uid" uuid DEFAULT gen_random_uuid() NOT NULL,
	"name" text NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"last_run" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "jobs_uid_unique" UNIQUE("uid"),
	CONSTRAINT "jobs_name_unique" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "godwit"."leases" (
	"job_id" uuid NOT NULL,
	"schedule_key" text DEFAULT '' NOT NULL,
	"run_id" uuid NOT NULL,
	"workflow_id" text NOT NULL,
	"first_execution_run_id" text NOT NULL,
	"installation" text NOT NULL,
	"taken_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "leases_job_id_schedule_key_pk" PRIMARY KEY("job_id","schedule_key")
);
--> statement-breakpoint
CREATE TABLE "godwit"."probes" (
	"id" uuid PRIMARY KEY NOT NULL,
	"request" jsonb NOT NULL,
	"answer" jsonb,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "godwit"."quarantine" (
	"run_id" uuid NOT NULL,
	"ordinal" integer NOT NULL,
	"generation" integer NOT NULL,
	"chunk" integer NOT NULL,
	"row" bigint NOT NULL,
	"column" text,
	"code" text NOT NULL,
	"native" text,
	"content" "bytea" NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "quarantine_run_id_ordinal_generation_chunk_row_pk" PRIMARY KEY("run_id","ordinal","generation","chunk","row")
);
--> statement-breakpoint
CREATE TABLE "godwit"."run_tables" (
	"run_id" uuid NOT NULL,
	"ordinal" integer NOT NULL,
	"target" text NOT NULL,
	"source_name" text NOT NULL,
	"target_name" text NOT NULL,
	"mode" text NOT NULL,
	"lane" text NOT NULL,
	"work" jsonb,
	"options" jsonb,
	"generation" integer DEFAULT 1 NOT NULL,
	"component" integer NOT NULL,
	"consistency" text DEFAULT 'snapshot' NOT NULL,
	"snapshot" integer,
	"status" text DEFAULT 'queued' NOT NULL,
	"failure" jsonb,
	"notes" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"estimated_rows" bigint DEFAULT -1 NOT NULL,
	"estimated_bytes" bigint DEFAULT -1 NOT NULL,
	"split_done" boolean DEFAULT false NOT NULL,
	"chunks_total" integer DEFAULT 0 NOT NULL,
	"chunks_done" integer DEFAULT 0 NOT NULL,
	"rows_read" bigint DEFAULT 0 NOT NULL,
	"rows_written" bigint DEFAULT 0 NOT NULL,
	"rows_filtered" bigint DEFAULT 0 NOT NULL,
	"rows_quarantined" bigint DEFAULT 0 NOT NULL,
	"bytes" bigint DEFAULT 0 NOT NULL,
	"rows_moving" bigint DEFAULT 0 NOT NULL,
	"started_at" timestamp (3) with time zone,
	"ended_at" timestamp (3) with time zone,
	"moving_since" timestamp (3) with time zone,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "run_tables_run_id_ordinal_pk" PRIMARY KEY("run_id","ordinal")
);
--> statement-breakpoint
CREATE TABLE "godwit"."runs" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"job_id" uuid NOT NULL,
	"number" integer NOT NULL,
	"schedule_key" text DEFAULT '' NOT NULL,
	"document_version" integer NOT NULL,
	"document" jsonb NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"failure" jsonb,
	"attempt" integer DEFAULT 1 NOT NULL,
	"epoch" integer DEFAULT 1 NOT NULL,
	"workflow_id" text NOT NULL,
	"workflow_run_id" text,
	"trigger" text DEFAULT 'api' NOT NULL,
	"actor" text,
	"idempotency_key" text,
	"snapshot_date" timestamp (3) with time zone,
	"consistency" text,
	"notes" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp (3) with time zone,
	"ended_at" timestamp (3) with time zone,
	CONSTRAINT "runs_job_number" UNIQUE("job_id","number"),
	CONSTRAINT "runs_idempotency" UNIQUE("job_id","idempotency_key")
);
--> statement-breakpoint
CREATE TABLE "godwit"."snapshots" (
	"run_id" uuid NOT NULL,
	"generation" integer NOT NULL,
	"token" text NOT NULL,
	"position" text NOT NULL,
	"taken_at" timestamp (3) with time zone NOT NULL,
	"lost_at" timestamp (3) with time zone,
	CONSTRAINT "snapshots_run_id_generation_pk" PRIMARY KEY("run_id","generation")
);
--> statement-breakpoint
CREATE TABLE "godwit"."sources" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"name" text NOT NULL,
	"type" text NOT NULL,
	"connection_id" uuid,
	"settings" jsonb NOT NULL,
	"secrets" "bytea",
	"secret_names" text[] DEFAULT '{}' NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"owner_job" uuid,
	CONSTRAINT "sources_name_unique" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "godwit"."targets" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"name" text NOT NULL,
	"type" text NOT NULL,
	"connection_id" uuid,
	"settings" jsonb NOT NULL,
	"secrets" "bytea",
	"secret_names" text[] DEFAULT '{}' NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"owner_job" uuid,
	CONSTRAINT "targets_name_unique" UNIQUE("name")
);
--> statement-breakpoint
ALTER TABLE "godwit"."chunks" ADD CONSTRAINT "chunks_run_id_ordinal_run_tables_run_id_ordinal_fk" FOREIGN KEY ("run_id","ordinal") REFERENCES "godwit"."run_tables"("run_id","ordinal") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."events" ADD CONSTRAINT "events_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "godwit"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."job_documents" ADD CONSTRAINT "job_documents_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."job_uses" ADD CONSTRAINT "job_uses_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."job_uses" ADD CONSTRAINT "job_uses_source_id_sources_id_fk" FOREIGN KEY ("source_id") REFERENCES "godwit"."sources"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."job_uses" ADD CONSTRAINT "job_uses_target_id_targets_id_fk" FOREIGN KEY ("target_id") REFERENCES "godwit"."targets"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."leases" ADD CONSTRAINT "leases_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD CONSTRAINT "quarantine_run_id_ordinal_run_tables_run_id_ordinal_fk" FOREIGN KEY ("run_id","ordinal") REFERENCES "godwit"."run_tables"("run_id","ordinal") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD CONSTRAINT "run_tables_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "godwit"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."runs" ADD CONSTRAINT "runs_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."snapshots" ADD CONSTRAINT "snapshots_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "godwit"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."sources" ADD CONSTRAINT "sources_connection_id_connections_id_fk" FOREIGN KEY ("connection_id") REFERENCES "godwit"."connections"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."sources" ADD CONSTRAINT "sources_owner_job_jobs_id_fk" FOREIGN KEY ("owner_job") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."targets" ADD CONSTRAINT "targets_connection_id_connections_id_fk" FOREIGN KEY ("connection_id") REFERENCES "godwit"."connections"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."targets" ADD CONSTRAINT "targets_owner_job_jobs_id_fk" FOREIGN KEY ("owner_job") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "events_run" ON "godwit"."events" USING btree ("run_id","id");--> statement-breakpoint
CREATE INDEX "job_uses_job" ON "godwit"."job_uses" USING btree ("job_id");--> statement-breakpoint
CREATE INDEX "job_uses_source" ON "godwit"."job_uses" USING btree ("source_id");--> statement-breakpoint
CREATE INDEX "job_uses_target" ON "godwit"."job_uses" USING btree ("target_id");--> statement-breakpoint
CREATE INDEX "run_tables_updated" ON "godwit"."run_tables" USING btree ("updated_at");--> statement-breakpoint
CREATE INDEX "runs_created" ON "godwit"."runs" USING btree ("created_at" DESC NULLS LAST,"id");--> statement-breakpoint
CREATE INDEX "runs_job_created" ON "godwit"."runs" USING btree ("job_id","created_at" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "runs_status" ON "godwit"."runs" USING btree ("status","created_at" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "runs_workflow" ON "godwit"."runs" USING btree ("workflow_id");