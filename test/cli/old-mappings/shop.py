# A mapping with every key the manual has for tables of PostgreSQL. Only the addresses are of the test.
import os

from dotenv_that_is_not_installed import load_dotenv

load_dotenv()

mapping = {
    'source': {
        'source_type': 'pgsql',
        'url': os.getenv('SHOP_URL'),
        'db_name': os.environ['SHOP_DB'],
        'username': os.getenv('SHOP_USER', 'reader'),
        'password': os.environ.get('SHOP_PASSWORD'),
    },
    'destination': {
        'pgsql_destination_3': {
            "destination_type": "pgsql",
            "url": os.getenv('DWH_URL'),
            "db_name": os.getenv('DWH_DB'),
            "username": os.getenv('DWH_USER'),
            "password": os.getenv('DWH_PASSWORD'),
            "schema": "public"
        },
    },
    'tables': [
        {
            "table_name": "my_table",
            "cron": "self-managed",
            "mode": "mirroring",
            "batch_size": 10000,
            "bookmark": "updated_at",
            "improper_bookmarks": False,
            "primary_key": "id",
            "primary_key_datatype": "uuid",
            'partition_col': 'created_at',
            'partition_col_format': 'datetime',
            "buffer_updation_lag": {"hours": 2},
            "grace_updation_lag": {"days": 1},
            'strict': True,
        },
        {
            "table_name": "events",
            "cron": '* * * * * 7-19 */1 0',
            "mode": "logging",
            "primary_key": "id",
            "primary_key_datatype": "int",
            'partition_col': False,
        },
        {"table_name": "prices", "cron": "self-managed", "mode": "dumping", "batch_size": 1000},
    ]
}


def get_table_name(record):
    return 'a_table'
