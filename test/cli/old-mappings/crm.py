# A mapping with the manual's keys for collections of MongoDB, and what Godwit does not have yet beside it.
import datetime
import os

HOST = os.getenv('CRM_HOST')

settings = {
    'fastapi_server': True,
    'timezone': 'Europe/Berlin',
    'notify': False,
    'cut_off_time': datetime.time(23, 30),
    'encryption_store': {'url': HOST, 'db_name': 'store', 'collection_name': 'enc'},
}

mappings = {
    'crm': {
        'source': {'source_type': 'mongo', 'url': os.getenv('CRM_URL'), 'db_name': os.getenv('CRM_DB'), 'username': '', 'password': ''},
        'destination': {
            'dwh': {
                'destination_type': 'pgsql',
                'url': os.getenv('DWH_URL'),
                'db_name': os.getenv('DWH_DB'),
                'username': os.getenv('DWH_USER'),
                'password': os.getenv('DWH_PASSWORD'),
                'schema': 'crm',
            },
            'my_dest_2': {
                'destination_type': 'redshift',
                'host': 'cluster.example.org',
                'database': 'redshift-db-name',
                'user': os.getenv('REDSHIFT_USER'),
                'password': os.getenv('REDSHIFT_PASSWORD'),
                's3_bucket_name': 's3-bucket-name',
            },
        },
        'collections': [
            {
                'collection_name': 'my_collection',
                'cron': 'self-managed',
                'mode': 'syncing',
                'batch_size': 10000,
                'time_delay': 0,
                'bookmark': 'updated_at',
                'improper_bookmarks': False,
                'buffer_updation_lag': {'hours': 2},
                'grace_updation_lag': {'days': 1},
                'fields': {'created_at': 'datetime', 'is_available': 'bool', 'priority': 'int', 'amount': 'float'},
                'query_hint': 'an old key',
            }
        ],
    },
    'stream': {
        'source': {'source_type': 'kafka', 'kafka_server': f'{HOST}:9092', 'db_name': 'dummy', 'consumer_group_id': 'g'},
        'destination': {},
        'topics': [{'topic_name': 'my_topic', 'cron': 'self-managed'}],
        'redis': {'url': 'redis-url', 'password': os.getenv('REDIS_PASSWORD')},
    },
}
